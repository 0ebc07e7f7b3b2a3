// What the benchmarks run on: file systems on loop devices, and VerFS with its volume on one.

import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { untar_entries } from './rows.mjs';

export const root = path.resolve(import.meta.dirname, '..');
export const client = path.join(root, 'target/release/verfs-bench-client');
export const verfs = path.join(root, 'packages/cli/bin/verfs.js');
const image_bytes = 8 * 1024 ** 3;
/** The unit of /sys/block/NAME/stat. */
const sector_bytes = 512;

/** A tar of a real source tree: crates of the Cargo registry until there are enough entries. */
export function makeArchive(directory) {
  const registry = path.join(os.homedir(), '.cargo/registry/src');
  const files = run('sh', ['-c', `find ${registry} -type f -size -200k | LC_ALL=C sort | head -n ${untar_entries}`]);
  const list = path.join(directory, 'untar.list');
  writeFileSync(list, files);
  const archive = path.join(directory, 'untar.tar');
  run('tar', ['-cf', archive, '--transform', 's,.*registry/src/,,', '-P', '-T', list]);
  return archive;
}

/** Builds the client that does the work. */
export function buildClient() {
  run('cargo', ['build', '--release', '-p', 'verfs-bench-client'], { cwd: root });
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}

export function run(command, args, options = {}) {
  return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], ...options });
}

/** Writes what waits to be written, and forgets what the kernel keeps of files. */
export function dropCaches() {
  run('sync', []);
  writeFileSync('/proc/sys/vm/drop_caches', '3');
}

/** What the kernel counts for a process: `VmRSS` is what it has, `VmHWM` the most that it had (proc_pid_status(5)). */
export function memoryBytes(pid, field) {
  const [, kib] = new RegExp(`${field}:\\s+(\\d+)`).exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kib) * 1024;
}

function makeImage(directory, name) {
  const image = path.join(directory, `${name}.img`);
  run('truncate', ['-s', String(image_bytes), image]);
  return image;
}

/** Unmounts, for a while: a process that is about to end may still have a file open. */
export function unmountPatiently(mountpoint) {
  spawnSync('sh', ['-c', `for try in 1 2 3 4 5 6 7 8 9; do umount ${mountpoint} && exit; sleep 0.5; done`]);
}

/** A file system of the kernel on a loop device. */
function kernelFilesystem(directory, name, mkfs, mountOptions) {
  const image = makeImage(directory, name);
  const mountpoint = path.join(directory, name);
  mkdirSync(mountpoint);
  run(mkfs[0], [...mkfs.slice(1), image]);
  let written = 0;
  const mount = () => run('mount', ['-o', ['loop', ...mountOptions].join(','), image, mountpoint]);
  const unmount = () => unmountPatiently(mountpoint);
  mount();
  return {
    name,
    mountpoint,
    remount() {
      unmount();
      mount();
    },
    stop: unmount,
    storedBytes() {
      run('sync', ['-f', mountpoint]);
      const [used] = run('df', ['-B1', '--output=used', mountpoint]).trim().split('\n').slice(-1);
      return Number(used);
    },
    /** Bytes that were written to the device since the last call. */
    writtenBytes() {
      const device = path.basename(run('findmnt', ['-no', 'SOURCE', mountpoint]).trim());
      const [, , , , , , sectors] = readFileSync(`/sys/block/${device}/stat`, 'utf8').trim().split(/\s+/);
      const before = written;
      written = Number(sectors) * sector_bytes;
      return written - before;
    },
  };
}

/** ext4 with its defaults. */
export function ext4(directory, name = 'ext4') {
  return kernelFilesystem(directory, name, ['mkfs.ext4', '-q', '-F'], []);
}

/** btrfs that compresses as VerFS does. */
export function btrfs(directory) {
  return kernelFilesystem(directory, 'btrfs', ['mkfs.btrfs', '-q', '-f'], ['compress=zstd:3']);
}

/**
 * VerFS with its volume on an ext4 of its own. `options` are those of the mount, `wrapper` is put before the commands of
 * daemon and client, and each mount is made by `around`.
 */
export function verfsFilesystem(
  directory,
  { name = 'verfs', options = [], wrapper = [], around = (mount) => mount() } = {},
) {
  const store = ext4(directory, 'verfs-store');
  const volume = path.join(store.mountpoint, 'volume');
  const mountpoint = path.join(directory, 'verfs');
  mkdirSync(mountpoint);
  const [program, ...before] = [...wrapper, 'node', verfs];
  const call = (...args) => run(program, [...before, ...args], { timeout: 120_000 });
  call('volume', 'create', '--volume', volume);
  const named = options.flatMap((option) => ['-o', option]);
  const mount = () => around(() => call('mount', mountpoint, '--volume', volume, ...named));
  mount();
  let peak = 0;
  const notePeak = () => {
    const { pid } = JSON.parse(call('status', mountpoint, '--json'));
    peak = Math.max(peak, memoryBytes(pid, 'VmHWM'));
  };
  return {
    name,
    mountpoint,
    volume,
    call,
    wrapper,
    remount() {
      notePeak();
      call('unmount', mountpoint);
      store.remount();
      mount();
    },
    stop() {
      spawnSync('node', [verfs, 'unmount', mountpoint], { timeout: 120_000 });
      // For a run that failed half-way: does nothing where that worked.
      spawnSync('umount', ['-l', mountpoint]);
      store.stop();
    },
    storedBytes() {
      call('sync', mountpoint);
      return store.storedBytes();
    },
    writtenBytes: store.writtenBytes,
    peakMemoryBytes() {
      notePeak();
      return peak;
    },
  };
}

/** Makes a directory in which a second VerFS has its files. */
function homeOf(directory, name) {
  const home = path.join(directory, name);
  mkdirSync(home);
  return home;
}

/** VerFS where root alone may enter, and the kernel checks no modes. */
export function privateFilesystem(directory) {
  return verfsFilesystem(homeOf(directory, 'private'), { name: 'private', options: ['private'] });
}

/** VerFS with its daemon and its client on one core. */
export function oneCoreFilesystem(directory) {
  return verfsFilesystem(homeOf(directory, 'one-core'), { name: 'one-core', wrapper: ['taskset', '-c', '0'] });
}

/** VerFS over io_uring, which the kernel is asked for while it mounts; undefined where it doesn't know it. */
export function ringFilesystem(directory) {
  const uring = '/sys/module/fuse/parameters/enable_uring';
  if (!existsSync(uring)) {
    console.error('ring is left out: this kernel has no FUSE over io_uring');
    return undefined;
  }
  const before = readFileSync(uring, 'utf8');
  const around = (mount) => {
    writeFileSync(uring, 'Y');
    try {
      return mount();
    } finally {
      writeFileSync(uring, before);
    }
  };
  return verfsFilesystem(homeOf(directory, 'ring'), { name: 'ring', options: ['transport=io_uring'], around });
}

const password = 'a password of benchmarks';

/** The unlocked vault of a VerFS volume of its own. */
export function vaultFilesystem(directory) {
  const home = homeOf(directory, 'vault');
  const filesystem = verfsFilesystem(home);
  const { mountpoint } = filesystem;
  const crypt = (...options) =>
    run('node', [verfs, 'crypt', mountpoint, '--password-stdin', ...options], {
      cwd: home,
      input: password,
      stdio: ['pipe', 'pipe', 'pipe'],
      timeout: 120_000,
    });
  crypt('-c');
  crypt('-u');
  return {
    ...filesystem,
    name: 'vault',
    mountpoint: path.join(mountpoint, '.vault'),
    remount() {
      filesystem.remount();
      crypt('-u');
    },
  };
}
