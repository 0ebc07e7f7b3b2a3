// The files of a volume through the library, beside node:fs on ext4, in one run.
//
//   npm run bench:library                           5 rounds, directories of 100,000 entries
//   npm run bench:library -- --rounds 3 --entries 10000
//
// Needs root, mkfs.ext4 and about 8 GiB. Both sides are on an ext4 of their own, on loop devices. Rounds alternate, each
// in a directory of its own; the medians count. Reads are of what was just written: from the page cache there, from the
// caches of the library here. Streams end with a sync in both: otherwise only the page cache would be measured.

import { randomBytes } from 'node:crypto';
import * as nodeFs from 'node:fs';
import { mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { parseArgs } from 'node:util';
import { Volume } from '../packages/sdk/dist/index.js';
import { ext4, median, root } from './filesystems.mjs';

const small_files = 4000;
const small_bytes = 4 << 10;
const parallel = 64;
/** Fits into the cache of chunks (`memory.chunk_cache`), as it does into the page cache. */
const stream_bytes = 32 << 20;
const piece_bytes = 1 << 20;

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    entries: { type: 'string', default: '100000' },
    directory: { type: 'string' },
  },
});
if (process.getuid() !== 0) throw new Error('the benchmark mounts loop devices: run it as root');
const entries = Number(options.entries);

/** Half of each block is random, as the other benchmarks have it. */
const pieces = Array.from({ length: stream_bytes / piece_bytes }, () => {
  const piece = Buffer.alloc(piece_bytes);
  for (let at = 0; at < piece_bytes; at += 4096) randomBytes(2048).copy(piece, at);
  return piece;
});
const content = pieces[0].subarray(0, small_bytes);

/** Calls `work` with each number below `count`, so many at once. */
async function each(count, atOnce, work) {
  let next = 0;
  const worker = async () => {
    while (next < count) {
      const number = next;
      next += 1;
      await work(number);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}

const discard = () => new Writable({ write: (_piece, _encoding, done) => done() });

/** What is measured: its name, its unit, the ratio that it should reach, and how many units it does. */
const rows = [
  [
    'create small files',
    'a second',
    0.3,
    ({ p }, at) => each(small_files, 1, (n) => p.writeFile(`${at}/a${n}`, content)),
  ],
  [
    'create, 64 at once',
    'a second',
    0.3,
    ({ p }, at) => each(small_files, parallel, (n) => p.writeFile(`${at}/b${n}`, content)),
  ],
  [
    'overwrite small files',
    'a second',
    0.3,
    ({ p }, at) => each(small_files, 1, (n) => p.writeFile(`${at}/a${n}`, content)),
  ],
  ['read small files', 'a second', 0.7, ({ p }, at) => each(small_files, 1, (n) => p.readFile(`${at}/a${n}`))],
  ['read, 64 at once', 'a second', 0.7, ({ p }, at) => each(small_files, parallel, (n) => p.readFile(`${at}/b${n}`))],
  ['stat', 'a second', 0.7, ({ p }, at) => each(small_files, 1, (n) => p.stat(`${at}/a${n}`))],
  [
    'write stream, synced',
    'MiB/s',
    0.7,
    async ({ fs, p }, at) => {
      await pipeline(Readable.from(pieces, { objectMode: true }), fs.createWriteStream(`${at}/stream`));
      const handle = await p.open(`${at}/stream`, 'r+');
      await handle.sync();
      await handle.close();
      return stream_bytes >> 20;
    },
  ],
  [
    'read stream, cached',
    'MiB/s',
    0.7,
    async ({ fs }, at) => {
      await pipeline(fs.createReadStream(`${at}/stream`, { highWaterMark: 256 << 10 }), discard());
      return stream_bytes >> 20;
    },
  ],
  ['readdir of many entries', 'entries a second', 0.7, async ({ p, many }) => (await p.readdir(many)).length],
  [
    'readdir with types',
    'entries a second',
    0.7,
    async ({ p, many }) => (await p.readdir(many, { withFileTypes: true })).length,
  ],
  ['unlink', 'a second', 0.3, ({ p }, at) => each(small_files, 1, (n) => p.unlink(`${at}/a${n}`))],
];

const directory = mkdtempSync(path.join(options.directory ?? root, 'bench-'));
const disks = [];
let volume;
try {
  disks.push(ext4(directory, 'baseline'), ext4(directory, 'store'));
  const home = path.join(disks[1].mountpoint, 'volume');
  await Volume.create(home);
  volume = await Volume.open(home);
  const sides = [
    { fs: volume.fs, p: volume.fs.promises, base: '' },
    { fs: nodeFs, p: nodeFs.promises, base: disks[0].mountpoint },
  ];
  for (const side of sides) {
    side.many = `${side.base}/many`;
    await side.p.mkdir(side.many);
    await each(entries, parallel, (n) => side.p.writeFile(`${side.many}/entry-${n}`, ''));
  }
  const rates = rows.map(() => sides.map(() => []));
  for (let round = 0; round < Number(options.rounds); round += 1) {
    for (const [index, side] of sides.entries()) {
      const at = `${side.base}/round-${round}`;
      await side.p.mkdir(at);
      for (const [row, [, , , work]] of rows.entries()) {
        const began = performance.now();
        const units = (await work(side, at)) ?? small_files;
        rates[row][index].push((units / (performance.now() - began)) * 1000);
      }
      await side.p.rm(at, { recursive: true });
    }
  }
  console.log('| row | unit | volume.fs | node:fs on ext4 | ratio | target |\n|---|---|---|---|---|---|');
  for (const [row, [name, unit, target]] of rows.entries()) {
    const [ours, theirs] = rates[row].map(median);
    const ratio = ours / theirs;
    console.log(
      `| ${name} | ${unit} | ${Math.round(ours)} | ${Math.round(theirs)} | ${ratio.toFixed(2)}${ratio < target ? ' !' : ''} | ${target} |`,
    );
  }
} catch (error) {
  // Said before the clean-up, which may fail for the same reason.
  console.error(error);
  process.exitCode = 1;
} finally {
  await volume?.close();
  for (const disk of disks) disk.stop();
  rmSync(directory, { recursive: true, force: true });
}
