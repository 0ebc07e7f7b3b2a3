/** Node's own streams over files of a volume: they take the calls that they make. */
import { ReadStream, WriteStream } from 'node:fs';
import { fileOf, flagsOf, modeOf, pathOf } from './arguments.ts';
import type { VolumeFileHandle } from './file-handle.ts';
import { read, readPlan, write, writev } from './transfer.ts';
import type { VolumeFiles } from './volume-files.ts';

type Done = (error: unknown, ...results: unknown[]) => void;

/** Tells `done` how a promise ends, outside of it: what `done` throws is no rejection. */
function tell<T>(promise: Promise<T>, done: Done, results: (value: T) => unknown[] = (value) => [value]): void {
  promise.then(
    (value) => process.nextTick(done, null, ...results(value)),
    (error) => process.nextTick(done, error),
  );
}

/** What a stream calls. */
function callsOf(files: VolumeFiles, close: (file: number) => Promise<void>) {
  return {
    open: (path: unknown, flags: unknown, mode: unknown, done: Done) => {
      const at = pathOf(path);
      const [flagBits, modeBits] = [flagsOf(flags), modeOf(mode, 0o666)];
      tell(
        files.run('open', (calls) => calls.open(at, flagBits, modeBits), at),
        done,
      );
    },
    read: (file: number, buffer: Buffer, offset: number, length: number, position: unknown, done: Done) => {
      const plan = readPlan([buffer, offset, length, position]);
      tell(read(files, file, plan), done, (bytes) => [bytes, buffer]);
    },
    write: (file: number, buffer: Buffer, offset: number, length: number, position: unknown, done: Done) => {
      const at = typeof position === 'number' ? position : undefined;
      const bytes = buffer.subarray(offset, offset + length);
      tell(write(files, file, { bytes, position: at }), done, (written) => [written, buffer]);
    },
    writev: (file: number, buffers: readonly Buffer[], position: unknown, done: Done) => {
      tell(writev(files, file, buffers, position), done, (written) => [written, buffers]);
    },
    fsync: (file: number, done: Done) =>
      tell(
        files.run('fsync', (calls) => calls.fsync(file)),
        done,
      ),
    close: (file: number, done: Done) => tell(close(file), done, () => []),
  };
}

type StreamOptions = Record<string, unknown>;
type Place = string | Buffer | URL;

const asObject = (options: unknown): StreamOptions =>
  typeof options === 'string' ? { encoding: options } : { ...(options as object | undefined) };

/** `createReadStream` and `createWriteStream`. */
export function streamsOf(files: VolumeFiles) {
  const fs = callsOf(files, (file) => files.run('close', (calls) => calls.close(file)));
  const optionsOf = (given: unknown) => {
    const options = asObject(given);
    const { fd } = options;
    if (fd === undefined || fd === null) {
      return { ...options, fs };
    }
    if (typeof fd === 'object' && 'fd' in fd && 'close' in fd) {
      const handle = fd as VolumeFileHandle;
      return { ...options, fd: handle.fd, fs: callsOf(files, () => handle.close()) };
    }
    return { ...options, fd: fileOf(fd), fs };
  };
  // Their constructors are not in the types.
  const NodeReadStream = ReadStream as unknown as new (path: Place, options: object) => ReadStream;
  const NodeWriteStream = WriteStream as unknown as new (path: Place, options: object) => WriteStream;
  class VolumeReadStream extends NodeReadStream {
    constructor(path: Place, options?: unknown) {
      super(path, optionsOf(options));
    }
  }
  class VolumeWriteStream extends NodeWriteStream {
    constructor(path: Place, options?: unknown) {
      super(path, optionsOf(options));
    }
  }
  return {
    createReadStream: (path: Place, options?: unknown): ReadStream => new VolumeReadStream(path, options),
    createWriteStream: (path: Place, options?: unknown): WriteStream => new VolumeWriteStream(path, options),
    ReadStream: VolumeReadStream,
    WriteStream: VolumeWriteStream,
    // The old names of both.
    FileReadStream: VolumeReadStream,
    FileWriteStream: VolumeWriteStream,
  };
}

/** `FileHandle.createReadStream`. */
export const handleReadStream = (files: VolumeFiles, handle: VolumeFileHandle, options: object | undefined) =>
  streamsOf(files).createReadStream('', { ...options, fd: handle });

/** `FileHandle.createWriteStream`. */
export const handleWriteStream = (files: VolumeFiles, handle: VolumeFileHandle, options: object | undefined) =>
  streamsOf(files).createWriteStream('', { ...options, fd: handle });
