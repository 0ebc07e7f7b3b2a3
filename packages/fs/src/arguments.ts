/** Arguments, checked as Node checks them. */
import { constants } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Path } from './calls.ts';
import { invalidType, invalidValue, outOfRange } from './errors.ts';

const { O_APPEND, O_CREAT, O_EXCL, O_RDONLY, O_RDWR, O_SYNC, O_TRUNC, O_WRONLY } = constants;

const flagNames: Readonly<Record<string, number>> = {
  r: O_RDONLY,
  rs: O_RDONLY | O_SYNC,
  sr: O_RDONLY | O_SYNC,
  'r+': O_RDWR,
  'rs+': O_RDWR | O_SYNC,
  'sr+': O_RDWR | O_SYNC,
  w: O_TRUNC | O_CREAT | O_WRONLY,
  wx: O_TRUNC | O_CREAT | O_WRONLY | O_EXCL,
  xw: O_TRUNC | O_CREAT | O_WRONLY | O_EXCL,
  'w+': O_TRUNC | O_CREAT | O_RDWR,
  'wx+': O_TRUNC | O_CREAT | O_RDWR | O_EXCL,
  'xw+': O_TRUNC | O_CREAT | O_RDWR | O_EXCL,
  a: O_APPEND | O_CREAT | O_WRONLY,
  ax: O_APPEND | O_CREAT | O_WRONLY | O_EXCL,
  xa: O_APPEND | O_CREAT | O_WRONLY | O_EXCL,
  as: O_APPEND | O_CREAT | O_WRONLY | O_SYNC,
  sa: O_APPEND | O_CREAT | O_WRONLY | O_SYNC,
  'a+': O_APPEND | O_CREAT | O_RDWR,
  'ax+': O_APPEND | O_CREAT | O_RDWR | O_EXCL,
  'xa+': O_APPEND | O_CREAT | O_RDWR | O_EXCL,
  'as+': O_APPEND | O_CREAT | O_RDWR | O_SYNC,
  'sa+': O_APPEND | O_CREAT | O_RDWR | O_SYNC,
};

/** The flags of open(2) that `flags` stands for. */
export function flagsOf(flags: unknown, byDefault = O_RDONLY): number {
  if (flags === undefined || flags === null) {
    return byDefault;
  }
  if (typeof flags === 'number') {
    return integer('flags', flags, -(2 ** 31), 2 ** 31 - 1);
  }
  const known = typeof flags === 'string' && Object.hasOwn(flagNames, flags) ? flagNames[flags] : undefined;
  if (known === undefined) {
    throw invalidValue('flags', flags);
  }
  return known;
}

/** A whole number between bounds. */
export function integer(name: string, value: unknown, min: number, max: number): number {
  if (typeof value !== 'number') {
    throw invalidType(name, 'of type number', value);
  }
  if (!Number.isInteger(value)) {
    throw outOfRange(name, 'an integer', value);
  }
  if (value < min || value > max) {
    throw outOfRange(name, `>= ${min} && <= ${max}`, value);
  }
  return value;
}

/** Permission bits: a number, or octal digits. */
export function modeOf(mode: unknown, byDefault: number, name = 'mode'): number {
  if (mode === undefined || mode === null) {
    return byDefault;
  }
  if (typeof mode === 'string') {
    if (!/^[0-7]+$/.test(mode)) {
      throw invalidValue(name, mode, 'must be a 32-bit unsigned integer or an octal string');
    }
    return integer(name, Number.parseInt(mode, 8), 0, 2 ** 32 - 1);
  }
  return integer(name, mode, 0, 2 ** 32 - 1);
}

/** A path: text, bytes or a file URL. */
export function pathOf(path: unknown, name = 'path'): Path {
  const plain = path instanceof URL ? fileURLToPath(path) : path;
  if (typeof plain === 'string') {
    if (plain.includes('\0')) {
      throw invalidValue(name, plain, 'must be a string, Uint8Array, or URL without null bytes');
    }
    return plain;
  }
  if (plain instanceof Uint8Array) {
    if (plain.includes(0)) {
      throw invalidValue(name, plain, 'must be a string, Uint8Array, or URL without null bytes');
    }
    // A copy: the call may wait, and the caller may go on.
    return Buffer.from(plain);
  }
  throw invalidType(name, 'of type string or an instance of Buffer or URL', path);
}

/** The number of an open file. */
export const fileOf = (file: unknown): number => integer('fd', file, 0, 2 ** 31 - 1);

/** An owner or a group; -1 leaves it as it is. */
export function idOf(name: string, id: unknown): number | null {
  const value = integer(name, id, -1, 2 ** 32 - 1);
  return value === -1 || value === 2 ** 32 - 1 ? null : value;
}

/** Seconds since 1970. */
export function timeOf(name: string, time: unknown): number {
  if (typeof time === 'number' && Number.isFinite(time)) {
    return time < 0 ? Date.now() / 1000 : time;
  }
  if (typeof time === 'number') {
    return Date.now() / 1000;
  }
  if (typeof time === 'string' && time.trim() !== '' && !Number.isNaN(Number(time))) {
    return Number(time);
  }
  if (time instanceof Date) {
    return time.getTime() / 1000;
  }
  throw invalidType(name, 'one of type number or string or an instance of Date', time);
}

/** How names and contents are given: text in an encoding, or bytes. */
export type Encoding = BufferEncoding | 'buffer';

/** Options that may be given as an encoding. */
export function optionsOf<T extends { encoding?: unknown }>(options: unknown, byDefault: T): T {
  if (options === undefined || options === null || typeof options === 'function') {
    return byDefault;
  }
  if (typeof options === 'string') {
    return checkedEncoding({ ...byDefault, encoding: options });
  }
  if (typeof options !== 'object') {
    throw invalidType('options', 'of type string or an instance of Object', options);
  }
  const merged = checkedEncoding({ ...byDefault, ...options });
  checkAbortSignal(merged);
  return merged;
}

/** Whether a text can be encoded so. What is no text is not made one: not every object can be. */
export function isEncoding(encoding: unknown): encoding is BufferEncoding {
  return typeof encoding === 'string' && Buffer.isEncoding(encoding);
}

function checkedEncoding<T extends { encoding?: unknown }>(options: T): T {
  const { encoding } = options;
  if (encoding !== undefined && encoding !== null && encoding !== 'buffer' && !isEncoding(encoding)) {
    throw invalidValue('encoding', encoding, 'is invalid encoding');
  }
  return options;
}

function checkAbortSignal(options: object): void {
  const signal: unknown = 'signal' in options ? options.signal : undefined;
  if (signal !== undefined && (typeof signal !== 'object' || signal === null || !('aborted' in signal))) {
    throw invalidType('options.signal', 'an instance of AbortSignal', signal);
  }
}

/** `bytes` as `encoding` wants them. */
export function encoded(bytes: Buffer, encoding: unknown): string | Buffer {
  return encoding === 'buffer' ? bytes : bytes.toString((encoding ?? 'utf8') as BufferEncoding);
}

/** The bytes of a view, without a copy. */
export function bytesOf(data: ArrayBufferView): Buffer {
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength);
}

/** Where to read or write; undefined for the file's position. */
export function positionOf(position: unknown): number | undefined {
  if (position === undefined || position === null) {
    return undefined;
  }
  if (typeof position === 'bigint') {
    return positionOf(Number(position));
  }
  if (typeof position !== 'number') {
    throw invalidType('position', 'of type number or bigint', position);
  }
  const value = integer('position', position, -1, Number.MAX_SAFE_INTEGER);
  return value === -1 ? undefined : value;
}
