/** The native addon and its types. Node built-ins only, but for the platforms and the types. */
import { copyFileSync, existsSync, mkdirSync, readdirSync, renameSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { quietly } from './progress.mjs';
import { hashOf, root, whenChanged } from './stamp.mjs';

/** Crates that the addon does not contain. */
const developmentCrates = ['testkit', 'xtask'];
const cargoTarget = resolve(root, process.env.CARGO_TARGET_DIR ?? 'target');

/** Where every build of the addon leaves its types, in a form of napi-derive: .cargo/config.toml says so. */
const rawTypes = 'target/napi/types';
const rawTypesFile = `${rawTypes}/verfs-node`;

function sources() {
  const crates = readdirSync(join(root, 'crates')).filter((name) => !developmentCrates.includes(name));
  const parts = ['src', 'Cargo.toml', 'build.rs'];
  return [
    'Cargo.toml',
    'Cargo.lock',
    '.cargo/config.toml',
    ...crates.flatMap((name) => parts.map((part) => `crates/${name}/${part}`)),
    ...parts.map((part) => `bindings/node/${part}`),
  ];
}

/** Where @verfs/native looks for the addon: packages/native/src/platform.ts has the same rule. */
export async function productPath() {
  const { platformArchTriples } = await import('@napi-rs/triples');
  const abi = process.report.getReport().header.glibcVersionRuntime === undefined ? 'musl' : 'gnu';
  const triples = platformArchTriples[process.platform]?.[process.arch] ?? [];
  return `bindings/node/verfs.${triples.find((triple) => triple.abi === abi)?.platformArchABI}.node`;
}

/** Builds the addon when its sources changed since. Says what it did. */
export async function buildAddon(rust, at) {
  const product = await productPath();
  const done = await whenChanged('addon', hashOf(sources(), rust), [product, rawTypesFile], async () => {
    mkdirSync(join(root, rawTypes), { recursive: true });
    const isThere = existsSync(join(root, rawTypesFile));
    const env = isThere ? process.env : { ...process.env, NAPI_FORCE_BUILD_VERFS_NODE: String(Date.now()) };
    await quietly('cargo', ['build', '--release', '-p', 'verfs-node'], { cwd: root, env, at });
    // A daemon that runs keeps the file that it has: the new one takes its name, not its place.
    const path = join(root, product);
    copyFileSync(join(cargoTarget, 'release/libverfs_node.so'), `${path}.new`);
    renameSync(`${path}.new`, path);
  });
  return done ? 'built' : undefined;
}

/** The types of the addon, as bindings/node/index.d.ts should have them. Needs Node 20.17, for @napi-rs/cli. */
export async function addonTypes() {
  const { generateTypeDef } = await import('@napi-rs/cli');
  const { dts } = await generateTypeDef({ typeDefDir: join(root, rawTypes), cwd: root, constEnum: false });
  return dts;
}
