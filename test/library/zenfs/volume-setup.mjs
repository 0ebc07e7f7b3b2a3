/**
 * What the cases run against: the files of a new volume in the directory that VERFS_CASES names, at their root. The
 * counterpart of `native-setup.ts` of the cases, which has Node's own `fs`.
 */
import { join } from 'node:path';
import { after } from 'node:test';
import { copyAsync, data } from '@zenfs/core/tests/setup.ts';
import { Volume } from 'verfs';

// The cases take modes for what they say.
process.umask(0);

const directory = join(process.env.VERFS_CASES, String(process.pid));
await Volume.create(directory);
const volume = await Volume.open(directory);
after(() => volume.close());

export const { fs } = volume;

// The cases end a watch with `using`, which the setup for Node's own `fs` lets them as well.
const { watch } = fs;
fs.watch = (...args) => {
  const watcher = watch(...args);
  return Object.assign(watcher, { [Symbol.dispose]: () => watcher.close() });
};

/** What is there: the cases that need another thing are skipped. `fs` of Node has neither of the last three on Linux. */
export const flags = { sync: 'readFileSync' in fs, lchmod: false, xattr: false, 'promises.exists': false };

await copyAsync(data, fs);
