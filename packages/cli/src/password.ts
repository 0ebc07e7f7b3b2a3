/** Where a command gets a password from. Never here: what is done with it. */
import { closeSync, readSync } from 'node:fs';
import type { ReadStream } from 'node:tty';
import { CancelledError, UsageError } from '@verfs/errors';

/** Options that say where passwords come from. */
export interface PasswordArguments {
  readonly password?: string | undefined;
  readonly 'password-stdin'?: boolean | undefined;
  readonly 'password-env'?: string | undefined;
  readonly 'password-fd'?: number | undefined;
}

/** Longest text that is read for passwords, in bytes. */
const textMaxBytes = 64 << 10;

const [newline, carriageReturn, controlC, controlD, backspace, erase] = [10, 13, 3, 4, 8, 127];

const wrongUse = (what: string) =>
  new UsageError(what, { advice: 'See `verfs crypt --help`: --password-stdin, --password-env, --password-fd or -p.' });

/** A part of a buffer that is nobody else's: those of a pool are shared. */
const own = (bytes: Uint8Array): Uint8Array => Uint8Array.from(bytes);

/** The first `count` lines of what `fd` has. */
function linesOf(fd: number, count: number, close: boolean): Uint8Array[] {
  const text = Buffer.alloc(textMaxBytes);
  let filled = 0;
  try {
    for (;;) {
      let bytes: number;
      try {
        bytes = readSync(fd, text, filled, textMaxBytes - filled, null);
      } catch (thrown) {
        if ((thrown as NodeJS.ErrnoException).code === 'EAGAIN') {
          // Somebody else made it non-blocking: there is nothing yet.
          Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
          continue;
        }
        throw wrongUse(`No password can be read from descriptor ${fd}: ${(thrown as Error).message}`);
      }
      filled += bytes;
      if (bytes === 0 || filled === textMaxBytes) {
        break;
      }
    }
    const lines: Uint8Array[] = [];
    for (let at = 0; at < filled && lines.length < count; ) {
      const found = text.subarray(0, filled).indexOf(newline, at);
      const end = found < 0 ? filled : found;
      lines.push(own(text.subarray(at, text[end - 1] === carriageReturn ? end - 1 : end)));
      at = end + 1;
    }
    return lines;
  } finally {
    text.fill(0);
    if (close) {
      closeSync(fd);
    }
  }
}

/** The length of a text of UTF-8 without its last character. */
function withoutLast(text: Uint8Array, length: number): number {
  let at = Math.max(0, length - 1);
  // Bytes that go on with a character begin with the bits 10.
  while (at > 0 && ((text[at] as number) & 0xc0) === 0x80) {
    at -= 1;
  }
  return at;
}

/** Asks on the terminal, without an echo. */
function prompt(question: string, terminal: ReadStream): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const typed = Buffer.alloc(4096);
    let length = 0;
    const end = (settle: () => void) => {
      terminal.off('data', take);
      terminal.setRawMode(false);
      terminal.pause();
      process.stderr.write('\n');
      settle();
      typed.fill(0);
    };
    const take = (data: Buffer) => {
      for (const byte of data) {
        if (byte === newline || byte === carriageReturn || byte === controlD) {
          end(() => resolve(own(typed.subarray(0, length))));
          break;
        }
        if (byte === controlC) {
          end(() => reject(new CancelledError('No password was given')));
          break;
        }
        if (byte === backspace || byte === erase) {
          length = withoutLast(typed, length);
        } else if (length < typed.length) {
          typed[length] = byte;
          length += 1;
        } else {
          end(() => reject(new UsageError(`A password has at most ${typed.length} bytes`)));
          break;
        }
      }
      data.fill(0);
    };
    process.stderr.write(question);
    terminal.setRawMode(true);
    terminal.on('data', take);
    terminal.resume();
  });
}

/** How a password is asked for. */
export interface Question {
  readonly text: string;
  /** Whether it is asked twice, and must be the same: nobody sees what he types. */
  readonly twice: boolean;
}

/**
 * A password for each question: from where the arguments say, one in each line, or from the terminal.
 *
 * @throws UsageError when there is no way to one, or one is empty; CancelledError
 */
export async function passwords(args: PasswordArguments, questions: readonly Question[]): Promise<Uint8Array[]> {
  const { password, 'password-stdin': stdin, 'password-env': name, 'password-fd': fd } = args;
  const given = [password, stdin === true ? true : undefined, name, fd].filter((source) => source !== undefined);
  if (given.length > 1) {
    throw wrongUse('More than one source of passwords is given');
  }
  let found: Uint8Array[];
  if (password !== undefined) {
    process.stderr.write('verfs: warning: others on this machine can see a password that is given with -p\n');
    found = [own(Buffer.from(password, 'utf8'))];
  } else if (stdin === true) {
    found = linesOf(0, questions.length, false);
  } else if (fd !== undefined) {
    found = linesOf(fd, questions.length, true);
  } else if (name !== undefined) {
    const value = process.env[name];
    if (value === undefined) {
      throw wrongUse(`The environment has no ${name}`);
    }
    delete process.env[name];
    found = value.split('\n').map((line) => own(Buffer.from(line, 'utf8')));
  } else if (process.stdin.isTTY) {
    found = await asked(questions, process.stdin);
  } else {
    throw wrongUse('There is no terminal to ask for a password on');
  }
  if (found.length < questions.length) {
    throw wrongUse(`${questions.length} passwords are needed, one in each line, the new one last`);
  }
  if (found.some((one) => one.length === 0)) {
    throw wrongUse('A password is empty');
  }
  return found.slice(0, questions.length);
}

async function asked(questions: readonly Question[], terminal: ReadStream): Promise<Uint8Array[]> {
  const found: Uint8Array[] = [];
  for (const { text, twice } of questions) {
    const first = await prompt(`${text}: `, terminal);
    if (twice) {
      const second = await prompt(`${text} again: `, terminal);
      const same = Buffer.compare(first, second) === 0;
      second.fill(0);
      if (!same) {
        throw new UsageError('The two passwords differ', { advice: 'Try again.' });
      }
    }
    found.push(first);
  }
  return found;
}
