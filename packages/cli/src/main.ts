/**
 * The `verfs` command: argument parsing, and how results and errors look.
 * Never here: what commands do with volumes, or which there are.
 */
import { errorTable, IoError, UsageError } from '@verfs/errors';
import yargs from 'yargs';
import { addCommands, addCommonOptions } from './commands.ts';
import { cryptWords } from './crypt-words.ts';
import { createOutput, reportFailure } from './output.ts';
import { version } from './version.ts';

const helpColumns = 110;

function exitCodesNote(): string {
  const { VERFS_E_USAGE, VERFS_E_INTERNAL } = errorTable;
  return `Exit codes: 0 done, ${VERFS_E_INTERNAL.exitCode} a defect, ${VERFS_E_USAGE.exitCode} wrong usage; docs/ERRORS.md has the others.`;
}

/** Of `words` after `--` none is an option: those that look like one are paths. `verfs volume freeze` has a command there. */
function withoutSeparator(words: readonly string[]): string[] {
  if (words[0] === 'volume' && words[1] === 'freeze') {
    return [...words];
  }
  const at = words.indexOf('--');
  const paths = at < 0 ? [] : words.slice(at + 1).map((word) => (word.startsWith('-') ? `./${word}` : word));
  return [...words.slice(0, at < 0 ? words.length : at), ...paths];
}

/** Whether the words ask for JSON: also where they are wrong, so that the error is JSON. */
function asksForJson(words: readonly string[]): boolean {
  const own = words.slice(0, words.includes('--') ? words.indexOf('--') : words.length);
  const last = own.findLast((word) => /^--(no-)?json(=|$)/.test(word));
  return last !== undefined && !last.startsWith('--no-') && !last.endsWith('=false');
}

/** What may be given more than once. */
const lists = ['o', 'names', 'paths', '--'];

/**
 * Options may be given once, those in `lists` excepted, and no text but a note may be empty: an unset variable of a
 * shell is a mistake.
 */
function checkValues(values: Readonly<Record<string, unknown>>): true {
  for (const [name, value] of Object.entries(values).filter(([key]) => key !== '_')) {
    if (Array.isArray(value) && !lists.includes(name)) {
      throw new UsageError(`${name} is given more than once`);
    }
    if ([value].flat().includes('') && name !== 'note' && name !== '--') {
      throw new UsageError(`${name} is empty`);
    }
  }
  return true;
}

function parser(words: readonly string[]) {
  const named = addCommonOptions(
    yargs(words)
      .scriptName('verfs')
      .locale('en')
      .usage('$0 <command>\n\nA filesystem that deduplicates and compresses what is stored in it.'),
  );
  return addCommands(named)
    .example('$0 mount ~/verfs', 'mounts the default volume')
    .example('$0 unmount ~/verfs', 'unmounts it')
    .epilogue(exitCodesNote())
    .strict()
    .check(checkValues)
    .wrap(helpColumns)
    .version(version())
    .alias('help', 'h')
    .exitProcess(false)
    .fail((message: string | null, error: Error | undefined) => {
      if (error !== undefined && error.name !== 'YError') {
        throw error;
      }
      const meant = /^Did you mean (.+)\?$/.exec(message ?? '')?.[1];
      if (meant !== undefined) {
        throw new UsageError(`Unknown command; did you mean ${meant}?`);
      }
      throw error ?? new WordsError(message ?? '');
    });
}

/** What the parser finds wrong with the words, before anybody looked what may be meant. */
class WordsError extends Error {
  override readonly name = 'YError';
}

/** The error for words that the parser does not take. */
async function misspelt(words: readonly string[], found: string): Promise<UsageError> {
  const { meantOption, optionNames } = await import('./meant-option.ts');
  const names = await optionNames(words);
  // Where no command is named the parser does not come to look at the options.
  const first = found.startsWith('Name a command:') ? /^--([\w-]+)/.exec(words[0] ?? '')?.[1] : undefined;
  const message = first === undefined || names.includes(first) ? found : `Unknown argument: ${first}`;
  const option = meantOption(names, words, message);
  // The parser names `one-thing` once more, as oneThing.
  const told = message.replace(/^Unknown arguments: ([\w-]+), ([A-Za-z0-9]+)$/, (whole, name: string, again: string) =>
    name.replaceAll('-', '').toLowerCase() === again.toLowerCase() ? `Unknown argument: ${name}` : whole,
  );
  return new UsageError(option === undefined ? told : `${told}; did you mean --${option}?`);
}

/** Runs the command and sets the exit code of the process. */
export async function main(argv: readonly string[]): Promise<void> {
  // What a volume holds is for its owner only.
  process.umask(0o077);
  const words = cryptWords(withoutSeparator(argv));
  const form = asksForJson(words) ? 'json' : 'text';
  process.stdout.on('error', (cause: NodeJS.ErrnoException) => {
    // Who hangs up early, as head(1) does, has read what he wanted.
    if (cause.code !== 'EPIPE') {
      const advice = 'Send it elsewhere; what the command does is done.';
      const error = new IoError(`The result cannot be written: ${cause.message}`, { advice, cause });
      process.exitCode = reportFailure(error, 'text');
    }
  });
  try {
    // yargs hands over what it would print of itself: help, or the version.
    await parser(words).parseAsync([...words], {}, (_error, _arguments, text) => {
      if (text !== '') {
        const value = text === version() ? { version: text } : { help: text };
        createOutput(form).result(value, () => [text]);
      }
    });
  } catch (thrown) {
    // Of a command that is loaded first, yargs throws some of what is wrong past `fail`.
    const isUsage = thrown instanceof Error && thrown.name === 'YError';
    process.exitCode = reportFailure(isUsage ? await misspelt(words, thrown.message) : thrown, form);
  }
}
