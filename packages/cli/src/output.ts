import { toVerfsError } from '@verfs/errors';

/** Where a command writes, and in which form. */
export interface Output {
  readonly form: 'text' | 'json';
  /** Writes a result: `text` for people, or `value` as JSON. */
  result(value: object, text: () => readonly string[]): void;
}

/** The output of a command. `form` is `json` for `--json`. */
export function createOutput(form: Output['form']): Output {
  return {
    form,
    result: (value, text) => {
      process.stdout.write(form === 'json' ? `${JSON.stringify(value)}\n` : `${text().join('\n')}\n`);
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
