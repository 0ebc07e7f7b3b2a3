import { EventEmitter } from 'node:events';
import type { BigIntStats, ReadStream, Stats, WriteStream } from 'node:fs';
import { createInterface, type Interface } from 'node:readline';
import { ReadableStream } from 'node:stream/web';
import { flagsOf, idOf, integer, modeOf, pathOf, timeOf } from './arguments.ts';
import type { FileCalls } from './calls.ts';
import { readFile, writeFile } from './content.ts';
import { handleReadStream, handleWriteStream } from './streams.ts';
import { read, readPlan, readv, write, writePlan, writev } from './transfer.ts';
import type { VolumeFiles } from './volume-files.ts';

/** Bytes that a web stream reads at once. */
const webPieceBytes = 64 << 10;

/** Closes the files of handles that were lost. */
const lost = new FinalizationRegistry<{ readonly files: VolumeFiles; readonly file: number }>(({ files, file }) => {
  // Nobody is there to be told.
  files.calls.close(file).catch(() => undefined);
});

/** Room that a reader of a web stream gives; not in Node's types. */
interface ByteRequest {
  readonly view: Uint8Array | null;
  respond(bytes: number): void;
}

/** An open file of `promises`, as Node's `FileHandle`. Its number is one of the volume's, none of the system's. */
export class VolumeFileHandle extends EventEmitter {
  readonly #files: VolumeFiles;
  #file: number;
  #closing: Promise<void> | undefined;
  /** Calls that use the file. */
  #users = 0;
  /** Goes on with what waits for the end of the last one. */
  #unused: (() => void) | undefined;

  constructor(files: VolumeFiles, file: number) {
    super();
    this.#files = files;
    this.#file = file;
    lost.register(this, { files, file }, this);
  }

  /** `open`. */
  static open(files: VolumeFiles, path: unknown, flags: unknown, mode: unknown): Promise<VolumeFileHandle> {
    const at = pathOf(path);
    const [flagBits, modeBits] = [flagsOf(flags), modeOf(mode, 0o666)];
    const opened = files.run('open', (calls) => calls.open(at, flagBits, modeBits), at);
    return opened.then((file) => new VolumeFileHandle(files, file));
  }

  /** The number; -1 once it is closed. */
  get fd(): number {
    return this.#file;
  }

  /** Uses the open file, which is not closed before that ends. */
  async #use<T>(syscall: string, use: (file: number) => Promise<T>): Promise<T> {
    if (this.#file === -1) {
      throw Object.assign(new Error('file closed'), { code: 'EBADF', syscall });
    }
    this.#users += 1;
    try {
      return await use(this.#file);
    } finally {
      this.#users -= 1;
      if (this.#users === 0) {
        this.#unused?.();
      }
    }
  }

  /** A call that needs nothing but the file. */
  #run<T>(syscall: string, call: (calls: FileCalls, file: number) => Promise<T>): Promise<T> {
    return this.#use(syscall, (file) => this.#files.run(syscall, (calls) => call(calls, file)));
  }

  async appendFile(data: unknown, options?: unknown): Promise<void> {
    await this.#use('write', (file) => writeFile(this.#files, { file }, data, options, 'a'));
  }

  async chmod(mode: unknown): Promise<void> {
    const bits = modeOf(mode, 0);
    await this.#run('fchmod', (calls, file) => calls.fchmod(file, bits));
  }

  async chown(uid: unknown, gid: unknown): Promise<void> {
    const [user, group] = [idOf('uid', uid), idOf('gid', gid)];
    await this.#run('fchown', (calls, file) => calls.fchown(file, user, group));
  }

  /** Closes the file; a second call waits for the same. */
  close(): Promise<void> {
    if (this.#file === -1) {
      return this.#closing ?? Promise.resolve();
    }
    const file = this.#file;
    this.#file = -1;
    lost.unregister(this);
    this.#closing = this.#files
      .run('close', (calls) => calls.close(file))
      .finally(() => {
        this.#closing = undefined;
        this.emit('close');
      });
    return this.#closing;
  }

  createReadStream(options?: object): ReadStream {
    return handleReadStream(this.#files, this, options);
  }

  createWriteStream(options?: object): WriteStream {
    return handleWriteStream(this.#files, this, options);
  }

  async datasync(): Promise<void> {
    await this.#run('fdatasync', (calls, file) => calls.fsync(file));
  }

  async sync(): Promise<void> {
    await this.#run('fsync', (calls, file) => calls.fsync(file));
  }

  async read(...args: unknown[]): Promise<{ bytesRead: number; buffer: ArrayBufferView }> {
    const plan = readPlan(args);
    return { bytesRead: await this.#use('read', (file) => read(this.#files, file, plan)), buffer: plan.buffer };
  }

  async readv(buffers: readonly ArrayBufferView[], position?: unknown) {
    return { bytesRead: await this.#use('read', (file) => readv(this.#files, file, buffers, position)), buffers };
  }

  async readFile(options?: unknown): Promise<string | Buffer> {
    return await this.#use('read', (file) => readFile(this.#files, { file }, options));
  }

  readLines(options?: object): Interface {
    return createInterface({ input: this.createReadStream(options), crlfDelay: Number.POSITIVE_INFINITY });
  }

  readableWebStream(): ReadableStream {
    return new ReadableStream({
      type: 'bytes',
      autoAllocateChunkSize: webPieceBytes,
      pull: async (controller) => {
        const request = (controller as unknown as { readonly byobRequest: ByteRequest | null }).byobRequest;
        const view = request?.view;
        if (!request || !view) {
          return;
        }
        const { bytesRead } = await this.read(Buffer.from(view.buffer, view.byteOffset, view.byteLength));
        if (bytesRead === 0) {
          controller.close();
        }
        request.respond(bytesRead);
      },
    });
  }

  async stat(options?: { bigint?: boolean }): Promise<Stats | BigIntStats> {
    const attributes = await this.#run('fstat', (calls, file) => calls.fstat(file));
    return this.#files.stats(attributes, options);
  }

  async truncate(length: unknown = 0): Promise<void> {
    const bytes = Math.max(0, integer('len', length, Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER));
    await this.#run('ftruncate', (calls, file) => calls.ftruncate(file, bytes));
  }

  async utimes(accessed: unknown, modified: unknown): Promise<void> {
    const [atime, mtime] = [timeOf('atime', accessed), timeOf('mtime', modified)];
    await this.#run('futime', (calls, file) => calls.fsetTimes(file, atime, mtime));
  }

  async write(...args: unknown[]): Promise<{ bytesWritten: number; buffer: unknown }> {
    const plan = writePlan(args);
    return { bytesWritten: await this.#use('write', (file) => write(this.#files, file, plan)), buffer: args[0] };
  }

  async writev(buffers: readonly ArrayBufferView[], position?: unknown) {
    return { bytesWritten: await this.#use('write', (file) => writev(this.#files, file, buffers, position)), buffers };
  }

  async writeFile(data: unknown, options?: unknown): Promise<void> {
    await this.#use('write', (file) => writeFile(this.#files, { file }, data, options, 'w'));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
