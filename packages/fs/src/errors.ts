import { getSystemErrorMap, inspect } from 'node:util';
import { fileFailure } from '@verfs/native';
import type { Path } from './calls.ts';

/** An error as Node's: with the name of the error, its negative number, and what was tried. */
export interface SystemError extends Error {
  errno: number;
  code: string;
  syscall: string;
  path?: string;
  dest?: string;
}

/** What was tried. */
export interface Attempt {
  readonly syscall: string;
  readonly path?: Path | undefined;
  readonly dest?: Path | undefined;
}

const text = (path: Path) => (typeof path === 'string' ? path : path.toString());

/** The error that Node throws for the number `errno`. */
export function systemError(errno: number, { syscall, path, dest }: Attempt): SystemError {
  const [code, description] = getSystemErrorMap().get(errno) ?? [`E${-errno}`, 'unknown error'];
  const about = path === undefined ? '' : ` '${text(path)}'${dest === undefined ? '' : ` -> '${text(dest)}'`}`;
  const error = new Error(`${code}: ${description}, ${syscall}${about}`);
  return Object.assign(error, {
    errno,
    code,
    syscall,
    ...(path === undefined ? {} : { path: text(path) }),
    ...(dest === undefined ? {} : { dest: text(dest) }),
  });
}

/** What the engine threw, as Node would. */
export function failureOf(thrown: unknown, attempt: Attempt): Error {
  const failure = fileFailure(thrown);
  return typeof failure === 'number' ? systemError(failure, attempt) : failure;
}

/** The code of an error, where it has one. */
export const codeOf = (error: unknown): unknown =>
  typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;

function withCode<E extends Error>(error: E, code: string): E & { code: string } {
  // As Node's errors show it on their first line.
  const { name } = error;
  error.name = `${name} [${code}]`;
  Error.captureStackTrace(error, withCode);
  void error.stack;
  error.name = name;
  Object.defineProperty(error, 'name', { enumerable: false });
  return Object.assign(error, { code });
}

/** An argument of the wrong type. */
export const invalidType = (name: string, expected: string, value: unknown) =>
  withCode(
    new TypeError(`The "${name}" argument must be ${expected}. Received ${inspect(value, { depth: -1 })}`),
    'ERR_INVALID_ARG_TYPE',
  );

/** An argument that cannot be. */
export const invalidValue = (name: string, value: unknown, reason = 'is invalid') =>
  withCode(new TypeError(`The argument '${name}' ${reason}. Received ${inspect(value)}`), 'ERR_INVALID_ARG_VALUE');

/** A number that is too large or too small. */
export const outOfRange = (name: string, range: string, value: unknown) =>
  withCode(
    new RangeError(`The value of "${name}" is out of range. It must be ${range}. Received ${inspect(value)}`),
    'ERR_OUT_OF_RANGE',
  );

/** Another of Node's errors. */
export const codedError = (code: string, message: string) => withCode(new Error(message), code);

/** The error of a call whose signal fired. */
export function abortError(signal: AbortSignal): Error {
  const error = new Error('The operation was aborted', { cause: signal.reason });
  error.name = 'AbortError';
  return Object.assign(error, { code: 'ABORT_ERR' });
}

/** Throws when the signal has fired. */
export function checkSignal(signal: AbortSignal | undefined): void {
  if (signal?.aborted) {
    throw abortError(signal);
  }
}
