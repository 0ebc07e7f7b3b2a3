/** Files whole: read, written, appended to. */
import { constants } from 'node:fs';
import { bytesOf, encoded, flagsOf, modeOf, optionsOf, pathOf } from './arguments.ts';
import type { Path } from './calls.ts';
import { checkSignal, codedError, codeOf, failureOf, invalidType } from './errors.ts';
import type { VolumeFiles } from './volume-files.ts';

/** Files up to this size are read, and written, in one call. */
const wholeMaxBytes = 4 << 20;
/** What larger ones are read and written in. */
const pieceBytes = 1 << 20;
/** The largest Buffer that Node reads a file into. */
const readMaxBytes = 2 ** 31 - 1;

interface ReadOptions {
  readonly encoding?: unknown;
  readonly flag?: unknown;
  readonly signal?: AbortSignal | undefined;
}

interface WriteOptions extends ReadOptions {
  readonly mode?: unknown;
  readonly flush?: boolean | undefined;
}

/** An open file, or the path of one. */
export type Target = { readonly path: Path } | { readonly file: number };

/** Runs `use` with the number of an open file, which is closed afterwards where it was opened for it. */
async function withFile<T>(
  files: VolumeFiles,
  target: Target,
  flags: number,
  mode: number,
  use: (file: number) => Promise<T>,
): Promise<T> {
  if ('file' in target) {
    return await use(target.file);
  }
  const file = await files.run('open', (calls) => calls.open(target.path, flags, mode), target.path);
  try {
    return await use(file);
  } finally {
    await files.run('close', (calls) => calls.close(file));
  }
}

/** Reads an open file to its end, from its position on. */
async function readToEnd(files: VolumeFiles, file: number, signal: AbortSignal | undefined): Promise<Buffer> {
  checkSignal(signal);
  const { size } = await files.run('fstat', (calls) => calls.fstat(file));
  if (size > readMaxBytes) {
    throw codedError('ERR_FS_FILE_TOO_LARGE', `File size (${size}) is greater than 2 GiB`);
  }
  // One more piece than the file has finds its end.
  let buffer = Buffer.allocUnsafeSlow(size + 1);
  let length = 0;
  for (;;) {
    checkSignal(signal);
    if (length === buffer.length) {
      const larger = Buffer.allocUnsafeSlow(buffer.length + pieceBytes);
      buffer.copy(larger);
      buffer = larger;
    }
    const room = buffer.subarray(length, length + pieceBytes);
    const read = await files.run('read', (calls) => calls.read(file, room));
    if (read === 0) {
      return buffer.subarray(0, length);
    }
    length += read;
  }
}

/** `readFile`. */
export function readFile(files: VolumeFiles, target: Target, given: unknown): Promise<string | Buffer> {
  const options = optionsOf<ReadOptions>(given, { encoding: null });
  const flags = flagsOf(options.flag);
  const { encoding, signal } = options;
  const shown = (bytes: Buffer) => encoded(bytes, encoding ?? 'buffer');
  const inPieces = async () =>
    shown(await withFile(files, target, flags, 0o666, (file) => readToEnd(files, file, signal)));
  if ('file' in target) {
    return inPieces();
  }
  const whole = async () => {
    checkSignal(signal);
    try {
      const bytes = await files.through('read', (calls) => calls.readFile(target.path, flags, wholeMaxBytes));
      return bytes === null || bytes === undefined ? await inPieces() : shown(bytes);
    } catch (thrown) {
      const failure = failureOf(thrown, { syscall: 'open', path: target.path });
      // A directory can be opened, but not read.
      throw codeOf(failure) === 'EISDIR' ? failureOf(thrown, { syscall: 'read' }) : failure;
    }
  };
  return whole();
}

/** Content that comes in pieces. */
type Pieces = AsyncIterable<unknown> | Iterable<unknown>;

function isPieces(data: unknown): data is Pieces {
  return typeof data === 'object' && data !== null && (Symbol.asyncIterator in data || Symbol.iterator in data);
}

/** The bytes of text or a view; undefined for anything else. */
function bytesOfData(data: unknown, encoding: unknown): Buffer | undefined {
  if (typeof data === 'string') {
    return Buffer.from(data, (encoding ?? 'utf8') as BufferEncoding);
  }
  return ArrayBuffer.isView(data) ? bytesOf(data) : undefined;
}

async function writeAll(files: VolumeFiles, file: number, bytes: Buffer, signal: AbortSignal | undefined) {
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    checkSignal(signal);
    const piece = bytes.subarray(at, at + pieceBytes);
    await files.run('write', (calls) => calls.write(file, piece));
  }
}

/** `writeFile`, and with the flag `a` `appendFile`. */
export function writeFile(
  files: VolumeFiles,
  target: Target,
  data: unknown,
  given: unknown,
  flag: string,
): Promise<void> {
  const options = optionsOf<WriteOptions>(given, { encoding: 'utf8', flag });
  const flags = flagsOf(options.flag, flagsOf(flag));
  const mode = modeOf(options.mode, 0o666);
  const { encoding, signal, flush } = options;
  const bytes = bytesOfData(data, encoding);
  if (bytes === undefined && !isPieces(data)) {
    throw invalidType('data', 'of type string or an instance of Buffer, TypedArray, or DataView', data);
  }
  const inPieces = () =>
    withFile(files, target, flags, mode, async (file) => {
      checkSignal(signal);
      if (bytes !== undefined) {
        await writeAll(files, file, bytes, signal);
      } else {
        for await (const piece of data as Pieces) {
          checkSignal(signal);
          const part = bytesOfData(piece, encoding);
          if (part === undefined) {
            throw invalidType('data', 'of type string or an instance of Buffer, TypedArray, or DataView', piece);
          }
          await writeAll(files, file, part, signal);
        }
      }
      if (flush === true) {
        await files.run('fsync', (calls) => calls.fsync(file));
      }
    });
  if ('file' in target || bytes === undefined || bytes.length > wholeMaxBytes || flush === true) {
    return inPieces();
  }
  const whole = async () => {
    checkSignal(signal);
    try {
      await files.through('write', (calls) => calls.writeFile(target.path, flags, mode, bytes));
    } catch (thrown) {
      const failure = failureOf(thrown, { syscall: 'open', path: target.path });
      throw ['ENOSPC', 'EFBIG', 'EIO', 'EBADF'].includes(String(codeOf(failure)))
        ? failureOf(thrown, { syscall: 'write' })
        : failure;
    }
  };
  return whole();
}

/** `truncate`: as Node, by opening the file. */
export function truncate(files: VolumeFiles, path: unknown, length: number): Promise<void> {
  const at = pathOf(path);
  return withFile(files, { path: at }, constants.O_RDWR, 0o666, (file) =>
    files.run('ftruncate', (calls) => calls.ftruncate(file, length)),
  );
}
