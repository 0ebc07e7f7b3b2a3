import { toVerfsError } from '@verfs/errors';

/** Where a command writes, and in which form. */
export interface Output {
  readonly form: 'text' | 'json';
  /** Writes a result: `text` for people, or `value` as JSON. */
  result(value: object, text: () => readonly string[]): void;
  /** Writes one of many items, in a line of its own. Resolves when there is room for the next, if somebody reads on. */
  item(value: object, text: () => string): Promise<'more' | 'enough'>;
}

/** Resolves when `stream` takes more, or never will: `main` sees to errors of standard output. */
function roomIn(stream: NodeJS.WritableStream): Promise<void> {
  const events = ['drain', 'close', 'error'] as const;
  return new Promise((resolve) => {
    const settle = () => {
      for (const event of events) {
        stream.off(event, settle);
      }
      resolve();
    };
    for (const event of events) {
      stream.on(event, settle);
    }
  });
}

/** The output of a command. `form` is `json` for `--json`. */
export function createOutput(form: Output['form']): Output {
  return {
    form,
    result: (value, text) => {
      process.stdout.write(form === 'json' ? `${JSON.stringify(value)}\n` : `${text().join('\n')}\n`);
    },
    item: async (value, text) => {
      const { stdout } = process;
      const line = form === 'json' ? JSON.stringify(value) : text();
      if (!stdout.write(`${line}\n`) && stdout.writable) {
        await roomIn(stdout);
      }
      return stdout.writable ? 'more' : 'enough';
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
