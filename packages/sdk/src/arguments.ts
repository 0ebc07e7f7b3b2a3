/** Arguments, checked for callers without types. */
import type { Readable } from 'node:stream';
import { inspect } from 'node:util';
import { UsageError } from '@verfs/errors';
import type { Cancellable } from './cancellable.ts';

const wrong = (name: string, wanted: string, value: unknown) =>
  new UsageError(`${name} is ${wanted}, and is ${inspect(value, { depth: -1 })} now`, {
    advice: 'See the types of the package.',
  });

/** Options that were given, or none. */
export function optionsOf<T extends object>(options: T | undefined): T {
  if (options !== undefined && (typeof options !== 'object' || options === null)) {
    throw wrong('options', 'an object', options);
  }
  return options ?? ({} as T);
}

/** An object that was given. */
export function objectOf<T extends object>(name: string, value: T): T {
  if (typeof value !== 'object' || value === null) {
    throw wrong(name, 'an object', value);
  }
  return value;
}

/** The signal among options. */
export function signalOf(options: Cancellable | undefined): AbortSignal | undefined {
  const signal: unknown = optionsOf(options).signal;
  if (signal === undefined) {
    return undefined;
  }
  const isSignal = typeof signal === 'object' && signal !== null && 'aborted' in signal && 'addEventListener' in signal;
  if (!isSignal) {
    throw wrong('options.signal', 'an AbortSignal', signal);
  }
  return signal as AbortSignal;
}

/** Text that was given. */
export function textOf(name: string, value: unknown): string {
  if (typeof value !== 'string') {
    throw wrong(name, 'a text', value);
  }
  return value;
}

/** A time in milliseconds that was given. */
export function millisecondsOf(name: string, value: unknown): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value > 2 ** 31 - 1) {
    throw wrong(name, 'a whole number of milliseconds below 2^31', value);
  }
  return value;
}

/** A stream that was given, to be read. */
export function readableOf(name: string, value: Readable): Readable {
  const isReadable = Symbol.asyncIterator in objectOf(name, value) && typeof value.destroy === 'function';
  if (!isReadable) {
    throw wrong(name, 'a stream to be read', value);
  }
  return value;
}

/** A function that was given, if one was. */
export function functionOf<F>(name: string, value: F | undefined): F | undefined {
  if (value !== undefined && typeof value !== 'function') {
    throw wrong(name, 'a function', value);
  }
  return value;
}

/** A password that was given. */
export function passwordOf(value: unknown): string | Uint8Array {
  if (typeof value !== 'string' && !(ArrayBuffer.isView(value) && 'fill' in value)) {
    // Not shown, whatever it is.
    throw new UsageError('A password is text or bytes, and is neither now', {
      advice: 'See the types of the package.',
    });
  }
  return value as string | Uint8Array;
}
