/** What the machine must have, and the command that installs what is missing. Node built-ins only. */
import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { Hindrance, quietly } from './progress.mjs';
import { root } from './stamp.mjs';

const nodeMin = '20.10.0';
const isRoot = process.getuid?.() === 0;

function numbers(version) {
  return version.split('.').map((part) => Number.parseInt(part, 10));
}

function isOlder(version, min) {
  const [have, need] = [numbers(version), numbers(min)];
  const at = need.findIndex((part, index) => part !== (have[index] ?? 0));
  return at >= 0 && (have[at] ?? 0) < need[at];
}

/** Where a program is, or nothing when none of the directories of `path` has it. */
export function find(program, path = process.env.PATH ?? '') {
  for (const directory of path.split(delimiter)) {
    const path = join(directory, program);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // The next directory may have it.
    }
  }
  return undefined;
}

/** Fails with the command that installs it unless Node is new enough. */
export function checkNode() {
  if (isOlder(process.versions.node, nodeMin)) {
    throw new Hindrance(
      `Node ${process.versions.node} is too old: VerFS needs ${nodeMin}. Install it from https://nodejs.org`,
    );
  }
}

/** Fails with the command that installs it unless Rust is new enough. Returns the version of cargo. */
export function checkRust() {
  const own = join(homedir(), '.cargo', 'bin');
  if (find('cargo') === undefined && existsSync(join(own, 'cargo'))) {
    process.env.PATH = `${own}${delimiter}${process.env.PATH ?? ''}`;
  }
  if (find('cargo') === undefined) {
    throw new Hindrance(
      "Rust is missing. Install it: curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y",
    );
  }
  const min = readFileSync(join(root, 'Cargo.toml'), 'utf8').match(/^rust-version = "([\d.]+)"/m)?.[1] ?? '1.0';
  const said = spawnSync('cargo', ['--version'], { cwd: root, encoding: 'utf8' });
  const version = said.stdout?.match(/cargo (\d+\.\d+\.\d+)/)?.[1];
  if (version === undefined) {
    throw new Hindrance(
      `cargo does not work: ${said.stderr?.trim().split('\n')[0].replace(/\.$/, '')}. Repair it: rustup default stable`,
    );
  }
  if (isOlder(version, min)) {
    const update = find('rustup') === undefined ? 'see https://rustup.rs' : 'rustup update stable';
    throw new Hindrance(`Rust ${version} is too old: VerFS needs ${min}. Update it: ${update}`);
  }
  return version;
}

/** Installs a Debian package as root; fails with the command that does so for others. */
export async function installPackage(name, what, at) {
  const command = `apt-get install -y ${name}`;
  if (!isRoot || find('apt-get') === undefined) {
    const advice = find('apt-get') === undefined ? `Install the package ${name}` : `Install it: sudo ${command}`;
    throw new Hindrance(`${what} is missing. ${advice}`);
  }
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  at(`installing ${name}`);
  try {
    await quietly('apt-get', ['install', '-y', '--no-install-recommends', name], { env });
  } catch {
    await quietly('apt-get', ['update'], { env });
    await quietly('apt-get', ['install', '-y', '--no-install-recommends', name], { env });
  }
  return `installed ${name}`;
}

/** Makes sure that there are a C compiler, which the zstd library and the linker need, and make, which jemalloc needs. */
export async function ensureCompiler(at) {
  const missing = [
    ['cc', 'A C compiler'],
    ['make', 'make'],
  ].find(([program]) => find(program) === undefined);
  return missing === undefined ? undefined : await installPackage('build-essential', missing[1], at);
}

/** Makes sure that file systems in user space can be mounted. */
export async function ensureFuse(at) {
  if (!existsSync('/dev/fuse') && isRoot && find('modprobe') !== undefined) {
    await quietly('modprobe', ['fuse']).catch(() => undefined);
  }
  if (!existsSync('/dev/fuse')) {
    const load = isRoot ? 'modprobe fuse' : 'sudo modprobe fuse';
    throw new Hindrance(
      `There is no /dev/fuse. Load it: ${load} (a container needs --device /dev/fuse --cap-add SYS_ADMIN)`,
    );
  }
  // Root can mount without it.
  if (find('fusermount3') !== undefined || (isRoot && find('apt-get') === undefined)) {
    return undefined;
  }
  return await installPackage('fuse3', 'fusermount3', at);
}
