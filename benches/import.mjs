// `verfs import` beside `cp -a` into the same mount, and into ext4 on the same disk.
//
//   npm run bench:import                              5 rounds; the tree is this project's node_modules
//   npm run bench:import -- --tree ~/projects --large 2 --rounds 3
//
// Needs root, mkfs.ext4 and about 8 GiB. The source, the volume and the copy on ext4 have an ext4 each, on loop devices.
// Rounds alternate, and each copy goes into a new volume or an empty directory: otherwise the second one would find
// everything stored. All of them end when the copy is durable: `cp` with a sync, which an import has in itself. Before a
// cold copy all caches are dropped, before a warm one the source is read.

import { randomBytes } from 'node:crypto';
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { dropCaches, ext4, median, root, run, verfs } from './filesystems.mjs';

const large_bytes = 256 << 20;
const piece_bytes = 1 << 20;
/** A copy of a large tree takes minutes on a machine that does something else. */
const timeout_ms = 1_800_000;

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    tree: { type: 'string', default: path.join(root, 'node_modules') },
    large: { type: 'string', default: '4' },
    directory: { type: 'string' },
  },
});
if (process.getuid() !== 0) throw new Error('the benchmark mounts loop devices: run it as root');

const command = (...words) => run(words[0], words.slice(1), { timeout: timeout_ms });
const call = (...words) => command('node', verfs, ...words);

/** Files of which half of each block is random, as the other benchmarks have them. */
function writeLarge(directory) {
  mkdirSync(directory);
  for (let number = 0; number < Number(options.large); number += 1) {
    const file = openSync(path.join(directory, `file-${number}`), 'w');
    for (let at = 0; at < large_bytes; at += piece_bytes) {
      const piece = Buffer.alloc(piece_bytes);
      for (let block = 0; block < piece_bytes; block += 4096) randomBytes(2048).copy(piece, block);
      writeSync(file, piece);
    }
    closeSync(file);
  }
}

function sizeOf(directory) {
  const sizes = command('find', directory, '-type', 'f', '-printf', '%s\\n').trim().split('\n').map(Number);
  return { files: sizes.length, mib: Math.round(sizes.reduce((sum, size) => sum + size, 0) / (1 << 20)) };
}

/** What the page cache has of the source when a copy begins. */
const caches = {
  cold: dropCaches,
  warm: (source) => command('sh', '-c', `find '${source}' -type f -exec cat {} + > /dev/null`),
};

/** Runs `work` in a new volume that is mounted, and returns what it returns. */
function inVolume(directory, work) {
  const volume = path.join(directory, 'volume');
  const mountpoint = path.join(directory, 'mountpoint');
  mkdirSync(mountpoint);
  call('volume', 'create', volume);
  call('mount', mountpoint, '--volume', volume);
  try {
    return work(mountpoint);
  } finally {
    call('unmount', mountpoint);
    for (const made of [volume, mountpoint]) rmSync(made, { recursive: true });
  }
}

/** Seconds that `copy` takes with the source in that state. */
function seconds(cache, source, copy) {
  caches[cache](source);
  const began = performance.now();
  copy();
  return (performance.now() - began) / 1000;
}

const directory = mkdtempSync(path.join(options.directory ?? root, 'bench-'));
const disks = {};
try {
  for (const name of ['source', 'store', 'ext4']) disks[name] = ext4(directory, name);
  const at = (name) => disks[name].mountpoint;
  /** Each way to copy: the source goes to a name that nothing has. */
  const ways = {
    'verfs import': (cache, source) =>
      inVolume(at('store'), (mountpoint) =>
        seconds(cache, source, () => call('import', source, path.join(mountpoint, 'copy'), '--quiet')),
      ),
    'the same, --no-verify': (cache, source) =>
      inVolume(at('store'), (mountpoint) =>
        seconds(cache, source, () => call('import', source, path.join(mountpoint, 'copy'), '--quiet', '--no-verify')),
      ),
    'cp -a into VerFS': (cache, source) =>
      inVolume(at('store'), (mountpoint) =>
        seconds(cache, source, () => {
          command('cp', '-a', source, path.join(mountpoint, 'copy'));
          call('sync', mountpoint);
        }),
      ),
    'cp -a into ext4': (cache, source) => {
      const copy = path.join(at('ext4'), 'copy');
      const took = seconds(cache, source, () => {
        command('cp', '-a', source, copy);
        command('sync', '-f', at('ext4'));
      });
      rmSync(copy, { recursive: true });
      return took;
    },
  };
  const sources = { 'small files': path.join(at('source'), 'tree'), 'large files': path.join(at('source'), 'large') };
  command('cp', '-a', options.tree, sources['small files']);
  writeLarge(sources['large files']);

  const rows = Object.entries(sources).flatMap(([title, source]) =>
    Object.keys(caches).map((cache) => ({ title, source, cache, took: Object.keys(ways).map(() => []) })),
  );
  for (let round = 0; round < Number(options.rounds); round += 1) {
    for (const { source, cache, took } of rows) {
      for (const [index, copy] of Object.values(ways).entries()) took[index].push(copy(cache, source));
    }
  }

  const names = Object.keys(ways);
  const head = [
    'source',
    'its cache',
    ...names.map((name) => `${name}, s`),
    'cp into VerFS / import',
    'cp into ext4 / import',
  ];
  const lines = rows.map(({ title, source, cache, took }) => {
    const { files, mib } = sizeOf(source);
    const medians = took.map(median);
    const [imported, , intoVerfs, intoExt4] = medians;
    const figures = took.map((values, index) => {
      const spread = Math.round(((Math.max(...values) - Math.min(...values)) / medians[index]) * 100);
      return `${medians[index].toFixed(2)} ±${spread}%`;
    });
    const ratios = [intoVerfs, intoExt4].map((other) => (other / imported).toFixed(2));
    return [`${title}: ${files}, ${mib} MiB`, cache, ...figures, ...ratios];
  });
  for (const line of [head, head.map(() => '---'), ...lines]) console.log(`| ${line.join(' | ')} |`);
} catch (error) {
  // Said before the clean-up, which may fail for the same reason.
  console.error(error);
  process.exitCode = 1;
} finally {
  for (const disk of Object.values(disks)) disk.stop();
  rmSync(directory, { recursive: true, force: true });
}
