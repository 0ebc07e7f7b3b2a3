/** Reads and writes of open files, with the arguments that Node takes. */
import { bytesOf, integer, isEncoding, positionOf } from './arguments.ts';
import { invalidType, invalidValue, outOfRange } from './errors.ts';
import type { VolumeFiles } from './volume-files.ts';

/** Bytes of the buffer that a read without one gets. */
const bufferBytes = 16 << 10;

/** A read of an open file. */
export interface ReadPlan {
  readonly buffer: ArrayBufferView;
  readonly offset: number;
  readonly length: number;
  readonly position: number | undefined;
}

const isOptions = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !ArrayBuffer.isView(value);

/** The arguments of `read` behind the file: `(buffer, offset, length, position)`, `(buffer, options)` or `(options)`. */
export function readPlan(args: readonly unknown[]): ReadPlan {
  let [buffer, offset, length, position] = args;
  if (buffer === undefined || buffer === null || isOptions(buffer)) {
    ({
      buffer = Buffer.alloc(bufferBytes),
      offset,
      length,
      position,
    } = { ...(buffer as object) } as Record<string, unknown>);
  } else if (isOptions(offset)) {
    ({ offset, length, position } = offset);
  }
  if (!ArrayBuffer.isView(buffer)) {
    throw invalidType('buffer', 'an instance of Buffer, TypedArray, or DataView', buffer);
  }
  const begin = offset === undefined || offset === null ? 0 : integer('offset', offset, 0, Number.MAX_SAFE_INTEGER);
  if (typeof length === 'symbol' || (typeof length === 'object' && length !== null)) {
    throw invalidType('length', 'of type number', length);
  }
  const bytes = length === undefined || length === null ? buffer.byteLength - begin : Math.trunc(Number(length));
  if (bytes === 0) {
    return { buffer, offset: 0, length: 0, position: undefined };
  }
  if (buffer.byteLength === 0) {
    throw invalidValue('buffer', buffer, 'is empty and cannot be written');
  }
  if (begin > buffer.byteLength) {
    throw outOfRange('offset', `<= ${buffer.byteLength}`, begin);
  }
  if (!(bytes >= 0 && bytes <= buffer.byteLength - begin)) {
    throw outOfRange('length', `>= 0 && <= ${buffer.byteLength - begin}`, length);
  }
  return { buffer, offset: begin, length: bytes, position: positionOf(position) };
}

/** Reads; gives how many bytes came. */
export function read(
  files: VolumeFiles,
  file: number,
  { buffer, offset, length, position }: ReadPlan,
): Promise<number> {
  const target = bytesOf(buffer).subarray(offset, offset + length);
  return files.run('read', (calls) => calls.read(file, target, position));
}

/** A write to an open file. */
export interface WritePlan {
  readonly bytes: Buffer;
  readonly position: number | undefined;
}

/** The arguments of `write` behind the file: `(buffer, offset, length, position)`, `(buffer, options)` or
 * `(text, position, encoding)`. */
export function writePlan(args: readonly unknown[]): WritePlan {
  const [data] = args;
  if (typeof data === 'string') {
    const [, position, encoding] = args;
    // An unknown encoding is UTF-8 here, as in Node.
    const known = isEncoding(encoding) ? encoding : 'utf8';
    if (known.toLowerCase() === 'hex' && data.length % 2 !== 0) {
      throw invalidValue('encoding', encoding, `is invalid for data of length ${data.length}`);
    }
    const at = typeof position === 'number' || typeof position === 'bigint' ? position : null;
    return { bytes: Buffer.from(data, known), position: writePosition(at) };
  }
  if (!ArrayBuffer.isView(data)) {
    throw invalidType('buffer', 'of type string or an instance of Buffer, TypedArray, or DataView', data);
  }
  let [, offset, length, position] = args;
  if (isOptions(offset)) {
    ({ offset, length, position } = offset);
  }
  const begin = offset === undefined || offset === null ? 0 : integer('offset', offset, 0, Number.MAX_SAFE_INTEGER);
  if (begin > data.byteLength) {
    throw outOfRange('offset', `<= ${data.byteLength}`, begin);
  }
  const bytes = typeof length === 'number' ? length : data.byteLength - begin;
  integer('length', bytes, 0, Number.MAX_SAFE_INTEGER);
  if (bytes > data.byteLength - begin) {
    throw outOfRange('length', `<= ${data.byteLength - begin}`, bytes);
  }
  return { bytes: bytesOf(data).subarray(begin, begin + bytes), position: writePosition(position) };
}

const writePosition = (position: unknown) =>
  typeof position === 'number' || typeof position === 'bigint' ? positionOf(position) : undefined;

/** Writes all of it. */
export async function write(files: VolumeFiles, file: number, { bytes, position }: WritePlan): Promise<number> {
  await files.run('write', (calls) => calls.write(file, bytes, position));
  return bytes.length;
}

function views(buffers: unknown): ArrayBufferView[] {
  if (!Array.isArray(buffers) || !buffers.every((buffer) => ArrayBuffer.isView(buffer))) {
    throw invalidType('buffers', 'an instance of ArrayBufferView[]', buffers);
  }
  return buffers;
}

/** `readv`: one read, put into the buffers in turn. */
export function readv(files: VolumeFiles, file: number, buffers: unknown, position: unknown): Promise<number> {
  const targets = views(buffers).map(bytesOf);
  const at = typeof position === 'number' ? positionOf(position) : undefined;
  if (targets.length === 1 && targets[0] !== undefined) {
    return read(files, file, { buffer: targets[0], offset: 0, length: targets[0].length, position: at });
  }
  const all = Buffer.allocUnsafe(targets.reduce((sum, target) => sum + target.length, 0));
  const whole = async () => {
    const length = await read(files, file, { buffer: all, offset: 0, length: all.length, position: at });
    let begin = 0;
    for (const target of targets) {
      begin += all.copy(target, 0, begin, Math.min(length, begin + target.length));
    }
    return length;
  };
  return whole();
}

/** `writev`: the buffers as one write. */
export function writev(files: VolumeFiles, file: number, buffers: unknown, position: unknown): Promise<number> {
  const bytes = Buffer.concat(views(buffers).map(bytesOf));
  return write(files, file, { bytes, position: writePosition(position) });
}
