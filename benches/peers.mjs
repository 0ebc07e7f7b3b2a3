// Other file systems in user space, each over a directory of an ext4 of its own, and a server that does nothing.

import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { installPackage } from '../scripts/system.mjs';
import { ext4, root, run, unmountPatiently } from './filesystems.mjs';

/** Each peer: its program, and the command that mounts `source` at `mountpoint` and returns when it is mounted. */
const programs = {
  gocryptfs: {
    prepare: (source) => run('gocryptfs', ['-q', '-init', '-extpass', 'echo benchmark', source]),
    mount: (source, mountpoint) => run('gocryptfs', ['-q', '-extpass', 'echo benchmark', source, mountpoint]),
  },
  bindfs: { mount: (source, mountpoint) => run('bindfs', [source, mountpoint]) },
  rclone: {
    mount: (source, mountpoint, cache) =>
      run('rclone', ['mount', source, mountpoint, '--daemon', '--vfs-cache-mode', 'full', '--cache-dir', cache]),
  },
};

/** A peer that is mounted; undefined, and said why, where it can't be had. */
export async function peerFilesystem(directory, name) {
  const program = programs[name];
  if (spawnSync('which', [name]).status !== 0) {
    try {
      await installPackage(name, name, () => undefined);
    } catch (error) {
      console.error(`${name} is left out: ${error.message}`);
      return undefined;
    }
  }
  const store = ext4(directory, `${name}-store`);
  const [source, cache] = ['source', 'cache'].map((child) => path.join(store.mountpoint, child));
  const mountpoint = path.join(directory, name);
  for (const child of [source, cache, mountpoint]) mkdirSync(child);
  program.prepare?.(source);
  // A daemon keeps the ends of pipes that it inherits: its output goes nowhere.
  const mount = () => program.mount(source, mountpoint, cache);
  const unmount = () => unmountPatiently(mountpoint);
  mount();
  return {
    name,
    mountpoint,
    remount() {
      unmount();
      store.remount();
      mount();
    },
    stop() {
      unmount();
      store.stop();
    },
    storedBytes: store.storedBytes,
    writtenBytes: store.writtenBytes,
  };
}

/** A tree in memory behind VerFS's own transport: the least that a round trip can cost. */
export async function nullFilesystem(directory) {
  run('cargo', ['build', '--release', '--workspace', '--example', 'memory_tree'], { cwd: root });
  const mountpoint = path.join(directory, 'null');
  mkdirSync(mountpoint);
  const server = spawn(path.join(root, 'target/release/examples/memory_tree'), [mountpoint], {
    stdio: ['pipe', 'ignore', 'inherit'],
  });
  while (spawnSync('mountpoint', ['-q', mountpoint]).status !== 0) await sleep(50);
  return {
    name: 'null',
    mountpoint,
    holdsData: false,
    remount: () => undefined,
    async stop() {
      // It unmounts when its input ends.
      const ended = new Promise((resolve) => server.once('exit', resolve));
      server.stdin.end();
      await ended;
    },
    storedBytes: () => 0,
    writtenBytes: () => 0,
  };
}
