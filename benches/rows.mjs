// The rows of the benchmark.

const sustained_seconds = 60;
/** Entries of the archive that is unpacked. */
export const untar_entries = 7000;
/** What a row of the client that makes small files makes. */
export const files_of_row = 10_000;
/** Longer takes no row, whatever the file system. */
export const row_timeout_ms = 600_000;

/**
 * Each row: what it is called and how it reads, its unit, the arguments of the client, and what comes before it.
 * `fresh` drops all caches first, `cold` remounts too; `warm` runs it so often before it counts (twice where files are
 * read: after a first read the kernel asks once more for the access time); `stored` notes what the store grew by,
 * `written` what went to the device; `data` rows don't run on a server that only keeps names; `once` leaves out all
 * repetitions but the first.
 */
export const rows = [
  {
    name: 'write',
    unit: 'MB/s',
    title: 'sequential write + fsync, 1 GiB half compressible',
    args: (seed) => [seed],
    data: true,
    fresh: true,
    stored: true,
  },
  {
    name: 'write-duplicate',
    unit: 'MB/s',
    title: 'the same file again + fsync',
    args: (seed) => [seed],
    needs: ['write'],
    data: true,
    fresh: true,
    stored: true,
  },
  {
    name: 'write-prose',
    unit: 'MB/s',
    title: 'sequential write + fsync, 1 GiB of random words',
    args: (seed) => [seed],
    data: true,
    fresh: true,
    stored: true,
  },
  {
    name: 'read-cold',
    client: 'read',
    unit: 'MB/s',
    title: 'sequential read after remount',
    needs: ['write'],
    data: true,
    cold: true,
  },
  {
    name: 'read-warm',
    client: 'read',
    unit: 'MB/s',
    title: 'sequential read, again',
    needs: ['write'],
    data: true,
    warm: 2,
  },
  {
    name: 'random-read',
    unit: 'op/s',
    title: 'random 4 KiB reads of 1 GiB after remount',
    needs: ['write'],
    data: true,
    cold: true,
  },
  {
    name: 'random-write',
    unit: 'op/s',
    title: 'random 4 KiB overwrites of 1 GiB, one fsync',
    args: (seed) => [seed],
    needs: ['write'],
    data: true,
    written: true,
  },
  {
    name: 'sustained-write',
    unit: 'op/s',
    title: `the same for ${sustained_seconds} s, an fsync every 1000`,
    args: (seed) => [seed, sustained_seconds],
    needs: ['write'],
    data: true,
    once: true,
    written: true,
  },
  {
    name: 'read-rewritten',
    client: 'read',
    unit: 'MB/s',
    title: 'sequential read of it after remount',
    needs: ['random-write'],
    data: true,
    cold: true,
  },
  {
    name: 'append-fsync',
    unit: 'op/s',
    title: '4 KiB append + fdatasync each, one client',
    args: () => [1],
    data: true,
  },
  {
    name: 'append-fsync-16',
    client: 'append-fsync',
    unit: 'op/s',
    title: 'the same, 16 clients',
    args: () => [16],
    data: true,
  },
  { name: 'create', unit: 'op/s', title: 'create 10,000 files' },
  { name: 'stat', unit: 'op/s', title: 'stat 10,000 files, warm', needs: ['create'], warm: 1 },
  { name: 'rename', unit: 'op/s', title: 'rename 10,000 files', needs: ['create'] },
  { name: 'unlink', unit: 'op/s', title: 'unlink 10,000 files', needs: ['rename'] },
  { name: 'untar', unit: 'op/s', title: `tar -x of ${untar_entries} entries`, archive: true },
  { name: 'find', unit: 'op/s', title: 'find -size in them, warm', needs: ['untar'], warm: 2 },
  { name: 'grep', unit: 'op/s', title: 'grep -r in them, warm', needs: ['untar'], data: true, warm: 2 },
  { name: 'copy', unit: 'op/s', title: 'cp -a of them', needs: ['untar'] },
  { name: 'remove', unit: 'op/s', title: 'rm -rf of the copy', needs: ['copy'] },
];

/** The rows of these names, and those that they need; all without names. */
export function chosenRows(only) {
  if (only === undefined) return rows;
  const names = new Set(only.split(','));
  for (const name of names) {
    if (!rows.some((row) => row.name === name)) {
      throw new Error(`no row ${name}; there are ${rows.map((row) => row.name).join(', ')}`);
    }
  }
  for (const row of [...rows].reverse()) if (names.has(row.name)) for (const need of row.needs ?? []) names.add(need);
  return rows.filter((row) => names.has(row.name));
}
