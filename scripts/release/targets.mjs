/** The platforms that there is a package for, and how the addon is built for each. */
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { platformArchTriples } from '@napi-rs/triples';
import { buildAddon, productPath } from '../addon.mjs';
import { quietly } from '../progress.mjs';
import { root } from '../stamp.mjs';
import { checkRust, find } from '../system.mjs';

/** The oldest C library of GNU that the addon runs with: that of Node.js 20. */
const glibcMin = '2.28';
/** Release builds are apart from others: they have another profile. */
const buildDirectory = join(root, 'target', 'release-build');

const { targets: wanted } = JSON.parse(readFileSync(join(root, 'bindings/node/package.json'), 'utf8')).napi;

/**
 * The targets of bindings/node/package.json, in its order.
 *
 * @type {readonly { rust: string, name: string, cpu: string, libc: 'glibc' | 'musl', isHost: boolean }[]}
 */
export const targets = wanted.map((rust) => {
  const [triple] = Object.values(platformArchTriples.linux)
    .flat()
    .filter(({ triple: name }) => name === rust);
  const abi = process.report.getReport().header.glibcVersionRuntime === undefined ? 'musl' : 'gnu';
  const isHost = triple.platform === process.platform && triple.arch === process.arch && triple.abi === abi;
  return {
    rust,
    name: triple.platformArchABI,
    cpu: triple.arch,
    libc: triple.abi === 'gnu' ? 'glibc' : 'musl',
    isHost,
  };
});

/** Name of the addon's file for `target`. */
export const addonFile = ({ name }) => `verfs.${name}.node`;

/** What this machine lacks to build for `target`; nothing when it can. */
export function hindranceOf({ rust }) {
  const installed = spawnSync('rustc', ['--print', 'target-libdir', '--target', rust], { cwd: root, encoding: 'utf8' });
  if (installed.status !== 0 || !existsSync(installed.stdout.trim())) {
    return `the standard library of ${rust}: rustup target add ${rust}`;
  }
  if (find('cargo-zigbuild') === undefined) {
    return 'cargo-zigbuild and zig: pip install cargo-zigbuild ziglang';
  }
  return undefined;
}

/**
 * Builds the addon for `target` as it is released, with zig as linker: for an old C library, whatever this machine has.
 * Returns its path.
 */
export async function buildReleaseAddon(target, at) {
  const { rust, libc } = target;
  const env = {
    ...process.env,
    CARGO_INCREMENTAL: '0',
    CARGO_TARGET_DIR: buildDirectory,
    CARGO_PROFILE_RELEASE_DEBUG: 'false',
    CARGO_PROFILE_RELEASE_STRIP: 'debuginfo',
    // A library that Node.js loads uses the C library of Node.js.
    ...(libc === 'musl' ? { RUSTFLAGS: '-C target-feature=-crt-static' } : {}),
  };
  const triple = libc === 'glibc' ? `${rust}.${glibcMin}` : rust;
  const args = ['zigbuild', '--locked', '--release', '-p', 'verfs-node', '--target', triple];
  await quietly('cargo', args, { cwd: root, env, at, timeoutMs: 60 * 60_000 });
  return join(buildDirectory, rust, 'release', 'libverfs_node.so');
}

/** The addon of this machine as `npm run build` makes it, without what only a debugger reads, at `path`. */
export async function hostAddon(path, at) {
  await buildAddon(checkRust(), at);
  mkdirSync(dirname(path), { recursive: true });
  copyFileSync(join(root, await productPath()), path);
  await quietly('strip', ['--strip-debug', path]);
}
