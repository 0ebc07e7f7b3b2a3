/** The interface with callbacks: the operations, and those on numbers of open files. */
import { fileOf, idOf, integer, modeOf, timeOf } from './arguments.ts';
import { readFile, writeFile } from './content.ts';
import { invalidType } from './errors.ts';
import { type Operations, openNumber } from './operations.ts';
import { read, readPlan, readv, write, writePlan, writev } from './transfer.ts';
import type { VolumeFiles } from './volume-files.ts';

/** What a callback gets after the error. */
type Results = readonly unknown[];

/**
 * An operation whose last argument is a callback. Wrong arguments are thrown, as Node throws them; what the callback
 * throws is uncaught, as there.
 */
function withCallback(
  operation: (...args: unknown[]) => Promise<unknown>,
  resultsOf: (value: unknown, args: Results) => Results,
) {
  return (...args: unknown[]): void => {
    const callback = args.at(-1);
    if (typeof callback !== 'function') {
      throw invalidType('cb', 'of type function', callback);
    }
    const answer = callback as (...results: unknown[]) => void;
    const given = args.slice(0, -1);
    operation(...given).then(
      (value) => process.nextTick(answer, null, ...resultsOf(value, given)),
      (error) => process.nextTick(answer, error),
    );
  };
}

const single = (value: unknown): Results => (value === undefined ? [] : [value]);

/** Operations on numbers of open files. */
function onNumbers(files: VolumeFiles) {
  const run = files.run.bind(files);
  return {
    close: (file: unknown) => {
      const number = fileOf(file);
      return run('close', (calls) => calls.close(number));
    },
    fchmod: (file: unknown, mode: unknown) => {
      const [number, bits] = [fileOf(file), modeOf(mode, 0)];
      return run('fchmod', (calls) => calls.fchmod(number, bits));
    },
    fchown: (file: unknown, uid: unknown, gid: unknown) => {
      const [number, user, group] = [fileOf(file), idOf('uid', uid), idOf('gid', gid)];
      return run('fchown', (calls) => calls.fchown(number, user, group));
    },
    fdatasync: (file: unknown) => {
      const number = fileOf(file);
      return run('fdatasync', (calls) => calls.fsync(number));
    },
    fstat: (file: unknown, options?: { bigint?: boolean }) => {
      const number = fileOf(file);
      return run('fstat', (calls) => calls.fstat(number)).then((found) => files.stats(found, options));
    },
    fsync: (file: unknown) => {
      const number = fileOf(file);
      return run('fsync', (calls) => calls.fsync(number));
    },
    ftruncate: (file: unknown, length: unknown = 0) => {
      const number = fileOf(file);
      const bytes = Math.max(0, integer('len', length ?? 0, Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER));
      return run('ftruncate', (calls) => calls.ftruncate(number, bytes));
    },
    futimes: (file: unknown, accessed: unknown, modified: unknown) => {
      const [number, atime, mtime] = [fileOf(file), timeOf('atime', accessed), timeOf('mtime', modified)];
      return run('futime', (calls) => calls.fsetTimes(number, atime, mtime));
    },
  };
}

/** Names of results of calls that have more than one, for `util.promisify`. */
const named = (operation: (...args: unknown[]) => void, names: readonly [string, string]) => {
  const promised = (...args: unknown[]) =>
    new Promise((resolve, reject) => {
      operation(...args, (error: unknown, first: unknown, second: unknown) =>
        error ? reject(error) : resolve({ [names[0]]: first, [names[1]]: second }),
      );
    });
  return Object.defineProperty(operation, Symbol.for('nodejs.util.promisify.custom'), { value: promised });
};

/** Every function with a callback. */
export function callbacksOf(files: VolumeFiles, operations: Operations): Record<string, (...args: unknown[]) => void> {
  // On Linux Node has `lchmod` as a promise that rejects, and none with a callback: tools look whether it is there.
  const { lchmod: _, ...others } = operations;
  const plain = { ...others, ...onNumbers(files) } as Record<string, (...args: unknown[]) => Promise<unknown>>;
  const all = Object.fromEntries(
    Object.entries(plain).map(([name, operation]) => [name, withCallback(operation, single)]),
  );
  const transfer = (operation: (...args: unknown[]) => Promise<Results>) =>
    withCallback(operation, (value) => value as Results);
  const fileOrPath = (target: unknown) => typeof target === 'number';
  return {
    ...all,
    open: withCallback((path, flags, mode) => openNumber(files, path, flags, mode), single),
    read: named(
      transfer(async (file, ...args) => {
        const plan = readPlan(args);
        return [await read(files, fileOf(file), plan), plan.buffer];
      }),
      ['bytesRead', 'buffer'],
    ),
    write: named(
      transfer(async (file, ...args) => [await write(files, fileOf(file), writePlan(args)), args[0]]),
      ['bytesWritten', 'buffer'],
    ),
    readv: named(
      transfer(async (file, buffers, at) => [await readv(files, fileOf(file), buffers, at), buffers]),
      ['bytesRead', 'buffers'],
    ),
    writev: named(
      transfer(async (file, buffers, at) => [await writev(files, fileOf(file), buffers, at), buffers]),
      ['bytesWritten', 'buffers'],
    ),
    readFile: withCallback(
      (target, options) =>
        fileOrPath(target) ? readFile(files, { file: fileOf(target) }, options) : operations.readFile(target, options),
      single,
    ),
    writeFile: withCallback(
      (target, data, options) =>
        fileOrPath(target)
          ? writeFile(files, { file: fileOf(target) }, data, options, 'w')
          : operations.writeFile(target, data, options),
      single,
    ),
    appendFile: withCallback(
      (target, data, options) =>
        fileOrPath(target)
          ? writeFile(files, { file: fileOf(target) }, data, options, 'a')
          : operations.appendFile(target, data, options),
      single,
    ),
    exists: existence(operations),
  };
}

/** `exists`, whose callback gets no error. */
function existence(operations: Operations) {
  const exists = (path: unknown) =>
    Promise.resolve()
      .then(() => operations.access(path))
      .then(
        () => true,
        () => false,
      );
  const withAnswer = (path: unknown, callback: unknown): void => {
    if (typeof callback !== 'function') {
      throw invalidType('cb', 'of type function', callback);
    }
    exists(path).then((answer) => process.nextTick(callback as (answer: boolean) => void, answer));
  };
  return Object.defineProperty(withAnswer, Symbol.for('nodejs.util.promisify.custom'), { value: exists });
}
