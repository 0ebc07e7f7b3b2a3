import { once } from 'node:events';
import { toVerfsError } from '@verfs/errors';

/** Where a command writes, and in which form. */
export interface Output {
  readonly form: 'text' | 'json';
  /** Writes a result: `text` for people, or `value` as JSON. */
  result(value: object, text: () => readonly string[]): void;
  /** Writes one of many items, in a line of its own; resolves when there is room for the next. */
  item(value: object, text: () => string): Promise<void>;
}

/** The output of a command. `form` is `json` for `--json`. */
export function createOutput(form: Output['form']): Output {
  return {
    form,
    result: (value, text) => {
      process.stdout.write(form === 'json' ? `${JSON.stringify(value)}\n` : `${text().join('\n')}\n`);
    },
    item: async (value, text) => {
      const line = form === 'json' ? JSON.stringify(value) : text();
      if (!process.stdout.write(`${line}\n`) && !process.stdout.destroyed) {
        // A reader that hangs up makes an error of the stream, which `main` sees to.
        await Promise.race([once(process.stdout, 'drain'), once(process.stdout, 'close')]);
      }
    },
  };
}

/** Reports a thrown value in one line, and returns the exit code for it. */
export function reportFailure(thrown: unknown, form: Output['form']): number {
  const error = toVerfsError(thrown);
  if (form === 'json') {
    process.stdout.write(`${JSON.stringify({ error: error.toJSON() })}\n`);
  } else {
    process.stderr.write(`verfs: ${error.message}\n`);
  }
  return error.exitCode;
}
