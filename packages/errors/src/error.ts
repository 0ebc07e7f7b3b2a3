import { type ErrorCode, errorTable, isErrorCode } from './table.ts';

/** What an error may carry besides its description. */
export interface ErrorDetails {
  /** The path that the error is about. */
  readonly path?: string | undefined;
  /** What to do next; by default the advice of the error table. */
  readonly advice?: string | undefined;
  /** What led to it. */
  readonly cause?: unknown;
}

/** An error as it crosses a boundary: the addon, the control socket, a pipe, `--json`. */
export interface ErrorRecord {
  readonly code: ErrorCode;
  /** One line: what happened, to which path, what to do next. */
  readonly message: string;
  readonly path?: string | undefined;
}

/** Base of all errors that VerFS throws. `message` is one line that says what, which path, and what to do next. */
export abstract class VerfsError extends Error {
  /** The stable code; `errorTable` explains it. */
  abstract readonly code: ErrorCode;
  /** The path that the error is about. */
  readonly path: string | undefined;

  /** `message` is taken as it is: use the class of a code, which adds the advice. */
  constructor(message: string, details: ErrorDetails) {
    super(message, 'cause' in details ? { cause: details.cause } : undefined);
    this.path = details.path;
  }

  /** Exit code of the command for this error. */
  get exitCode(): number {
    return errorTable[this.code].exitCode;
  }

  /** The form that crosses boundaries. */
  toJSON(): ErrorRecord {
    return { code: this.code, message: this.message, ...(this.path === undefined ? {} : { path: this.path }) };
  }
}

/** `word` as one writes it in a shell: for commands that a person is told to run. */
export const shellQuoted = (word: string) =>
  /^[\w@%+=:,./~-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;

/** `what`, followed by the advice: the message of a new error. */
export function describe(code: ErrorCode, what: string, details: ErrorDetails): string {
  const advice = details.advice ?? errorTable[code].advice;
  const filled = advice.replaceAll('{path}', () => shellQuoted(details.path ?? 'PATH'));
  const sentence = what.replace(/[.\s]+$/, '');
  return `${sentence}${sentence.endsWith('?') ? '' : '.'} ${filled}`.replaceAll(/\s*\n\s*/g, ' ');
}

/** Whether `value` has the shape of an error that crossed a boundary. */
export function isErrorRecord(value: unknown): value is ErrorRecord {
  return (
    typeof value === 'object' &&
    value !== null &&
    'code' in value &&
    isErrorCode(value.code) &&
    'message' in value &&
    typeof value.message === 'string'
  );
}
