/** `fs.openAsBlob`: a file as a `Blob`, which is read when somebody wants its bytes. */
import { constants } from 'node:fs';
import type { FileAttributes } from '@verfs/native';
import { pathOf } from './arguments.ts';
import type { Path } from './calls.ts';
import { codedError, invalidType } from './errors.ts';
import type { VolumeFiles } from './volume-files.ts';

/** Bytes that a stream of one reads at once. */
const pieceBytes = 64 << 10;

/** A file as it was when the blob was made; of one that changed since nothing can be read. */
interface Origin {
  readonly files: VolumeFiles;
  readonly path: Path;
  readonly made: FileAttributes;
}

const isSame = (one: FileAttributes, other: FileAttributes) =>
  one.ino === other.ino &&
  one.tree === other.tree &&
  one.size === other.size &&
  one.mtimeS === other.mtimeS &&
  one.mtimeNs === other.mtimeNs;

const unreadable = () => new DOMException('The blob could not be read', 'NotReadableError');

/** A begin or an end of a part, as `Blob.slice` takes them: from the end where negative. */
const clamped = (at: number, size: number) => Math.min(Math.max(at < 0 ? size + at : at, 0), size);

/** A part of a file. */
class VolumeBlob extends Blob {
  readonly #origin: Origin;
  readonly #begin: number;
  readonly #end: number;

  declare readonly size: number;

  constructor(origin: Origin, begin: number, end: number, type: string) {
    super([], { type });
    this.#origin = origin;
    this.#begin = begin;
    this.#end = end;
    Object.defineProperty(this, 'size', { value: end - begin });
  }

  override slice(begin = 0, end = this.size, type = ''): Blob {
    const [first, last] = [clamped(Math.trunc(begin), this.size), clamped(Math.trunc(end), this.size)];
    return new VolumeBlob(this.#origin, this.#begin + first, this.#begin + Math.max(first, last), type);
  }

  async *#pieces(): AsyncGenerator<Uint8Array<ArrayBuffer>, void> {
    const { files, path, made } = this.#origin;
    const file = await files.run('open', (calls) => calls.open(path, constants.O_RDONLY, 0)).catch(() => undefined);
    if (file === undefined) {
      throw unreadable();
    }
    try {
      for (let at = this.#begin; at < this.#end; ) {
        if (!isSame(made, await files.run('fstat', (calls) => calls.fstat(file)))) {
          throw unreadable();
        }
        const piece = new Uint8Array(Math.min(pieceBytes, this.#end - at));
        const bytes = await files.run('read', (calls) => calls.read(file, piece, at));
        if (bytes === 0) {
          throw unreadable();
        }
        at += bytes;
        yield piece.subarray(0, bytes);
      }
    } finally {
      await files.run('close', (calls) => calls.close(file));
    }
  }

  override stream(): ReturnType<Blob['stream']> {
    const pieces = this.#pieces();
    return new ReadableStream<Uint8Array<ArrayBuffer>>({
      async pull(controller) {
        const { done, value } = await pieces.next();
        if (done === true) {
          controller.close();
        } else {
          controller.enqueue(value);
        }
      },
      async cancel() {
        await pieces.return();
      },
    }) as ReturnType<Blob['stream']>;
  }

  override async arrayBuffer(): Promise<ArrayBuffer> {
    const all = new Uint8Array(this.size);
    let at = 0;
    for await (const piece of this.#pieces()) {
      all.set(piece, at);
      at += piece.length;
    }
    return all.buffer;
  }

  override async text(): Promise<string> {
    return new TextDecoder().decode(await this.arrayBuffer());
  }

  override async bytes(): Promise<Uint8Array<ArrayBuffer>> {
    return new Uint8Array(await this.arrayBuffer());
  }
}

/** `openAsBlob`. A file that is not there rejects, where Node throws. */
export async function openAsBlob(files: VolumeFiles, given: unknown, options: unknown = {}): Promise<Blob> {
  if (typeof options !== 'object' || options === null) {
    throw invalidType('options', 'of type object', options);
  }
  const { type = '' } = options as { readonly type?: unknown };
  if (typeof type !== 'string') {
    throw invalidType('options.type', 'of type string', type);
  }
  const path = pathOf(given);
  const made = await files
    .run('stat', (calls) => calls.stat(path, true), path)
    .catch((cause: unknown) => {
      throw Object.assign(codedError('ERR_INVALID_ARG_VALUE', 'Unable to open file as blob'), { cause });
    });
  return new VolumeBlob({ files, path, made }, 0, made.size, type);
}
