/**
 * The `verfs` command: argument parsing, and how results and errors look.
 * Never here: what commands do with volumes. Each command is loaded when it is called, so that all start quickly.
 */
import { readFileSync } from 'node:fs';
import { errorTable, IoError, UsageError } from '@verfs/errors';
import yargs, { type Argv } from 'yargs';
import { crypt, cryptBuilder, cryptWords } from './commands/crypt.ts';
import { gc, gcBuilder } from './commands/gc.ts';
import { mount, mountBuilder } from './commands/mount.ts';
import { policyRun, policySet, policyShow, runBuilder, setBuilder, showBuilder } from './commands/policy.ts';
import * as snapshot from './commands/snapshot.ts';
import { stats, statsBuilder } from './commands/stats.ts';
import { status, statusBuilder } from './commands/status.ts';
import { receive, receiveBuilder, send, sendBuilder } from './commands/streams.ts';
import { sync, syncBuilder } from './commands/sync.ts';
import { unmount, unmountBuilder } from './commands/unmount.ts';
import { createBuilder, infoBuilder, volumeCreate, volumeInfo } from './commands/volume.ts';
import type { CommonArguments } from './context.ts';
import { createOutput, reportFailure } from './output.ts';

const helpColumns = 110;

function version(): string {
  const manifest: unknown = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
  return (manifest as { version: string }).version;
}

function exitCodesNote(): string {
  const { VERFS_E_USAGE, VERFS_E_INTERNAL } = errorTable;
  return `Exit codes: 0 done, ${VERFS_E_INTERNAL.exitCode} a defect, ${VERFS_E_USAGE.exitCode} wrong usage; docs/ERRORS.md has the others.`;
}

/** Of `words` after `--` none is an option: those that look like one are paths. */
function withoutSeparator(words: readonly string[]): string[] {
  const at = words.indexOf('--');
  const paths = at < 0 ? [] : words.slice(at + 1).map((word) => (word.startsWith('-') ? `./${word}` : word));
  return [...words.slice(0, at < 0 ? words.length : at), ...paths];
}

/** Whether the words ask for JSON: also where they are wrong, so that the error is JSON. */
function asksForJson(words: readonly string[]): boolean {
  const last = words.findLast((word) => /^--(no-)?json(=|$)/.test(word));
  return last !== undefined && !last.startsWith('--no-') && !last.endsWith('=false');
}

/** What may be given more than once. */
const lists = ['o', 'names', 'paths'];

/**
 * Options may be given once, those in `lists` excepted, and no text but a note may be empty: an unset variable of a
 * shell is a mistake.
 */
function checkValues(values: Readonly<Record<string, unknown>>): true {
  for (const [name, value] of Object.entries(values).filter(([key]) => key !== '_')) {
    if (Array.isArray(value) && !lists.includes(name)) {
      throw new UsageError(`${name} is given more than once`);
    }
    if ([value].flat().includes('') && name !== 'note') {
      throw new UsageError(`${name} is empty`);
    }
  }
  return true;
}

const snapshots = (yargs: Argv<CommonArguments>) =>
  yargs
    .command('create <name>', 'Take a snapshot', snapshot.createBuilder, snapshot.snapshotCreate)
    .command('list', 'List the snapshots', snapshot.listBuilder, snapshot.snapshotList)
    .command('delete <names..>', 'Delete snapshots', snapshot.deleteBuilder, snapshot.snapshotDelete)
    .command('diff <from> [to]', 'Show what changed', snapshot.diffBuilder, snapshot.snapshotDiff)
    .command('rollback <name>', 'Make the volume what it was', snapshot.rollbackBuilder, snapshot.snapshotRollback)
    .command(
      'clone <name> <directory>',
      'Make a copy that can be written',
      snapshot.cloneBuilder,
      snapshot.snapshotClone,
    )
    .command('restore <name> <paths..>', 'Put files back', snapshot.restoreBuilder, snapshot.snapshotRestore)
    .command('hold <names..>', 'Keep snapshots from being deleted', snapshot.holdBuilder, snapshot.snapshotHold)
    .command('release <names..>', 'End a hold', snapshot.holdBuilder, snapshot.snapshotRelease)
    .example('$0 snapshot create monday', 'takes a snapshot')
    .example('$0 snapshot diff monday', 'what changed since')
    .demandCommand(1, 'Name a command of `verfs snapshot`: create, list, delete, diff, rollback, clone, restore, …')
    .recommendCommands();

const policies = (yargs: Argv<CommonArguments>) =>
  yargs
    .command('show', 'Show the policy of a volume', showBuilder, policyShow)
    .command('set', 'Change it', setBuilder, policySet)
    .command('run', 'Take a snapshot when one is due, and prune', runBuilder, policyRun)
    .example('$0 policy set --schedule hourly --keep-hourly 24', 'takes one each hour, and keeps 24')
    .example('$0 policy run --dry-run', 'what would be done now')
    .demandCommand(1, 'Name a command of `verfs policy`: show, set or run')
    .recommendCommands();

function parser(words: readonly string[]) {
  return yargs(words)
    .scriptName('verfs')
    .locale('en')
    .usage('$0 <command>\n\nA filesystem that deduplicates and compresses what is stored in it.')
    .option('json', { type: 'boolean', default: false, global: true, describe: 'Results and errors as JSON' })
    .option('config', { type: 'string', requiresArg: true, global: true, describe: 'Configuration file' })
    .option('quiet', { type: 'boolean', global: true, describe: 'Do not tell how far it is' })
    .command('mount [mountpoint]', 'Mount a volume', mountBuilder, mount)
    .command('unmount [path]', 'Make everything durable and unmount', unmountBuilder, unmount)
    .command('status [path]', 'Tell whether and where a volume is mounted', statusBuilder, status)
    .command('stats [path]', 'Show sizes, ratios, caches and latencies', statsBuilder, stats)
    .command('sync [path]', 'Make everything durable that was written', syncBuilder, sync)
    .command('gc [path]', 'Give the room of deleted data back to the disk', gcBuilder, gc)
    .command('crypt [path]', 'Make, unlock and lock the vault, an encrypted folder', cryptBuilder, crypt)
    .command('volume', 'Make volumes and look at them', (volume) =>
      volume
        .command('create [directory]', 'Make a volume', createBuilder, volumeCreate)
        .command('info [path]', 'Show what the superblock of a volume says', infoBuilder, volumeInfo)
        .example('$0 volume create /srv/a', 'makes a volume')
        .example('$0 volume info --volume /srv/a', 'what it is')
        .demandCommand(1, 'Name a command of `verfs volume`: create or info')
        .recommendCommands(),
    )
    .command('snapshot', 'Take snapshots of a volume, compare them, and go back to them', snapshots)
    .command('send <snapshot> [path]', 'Write a snapshot as a stream to standard output', sendBuilder, send)
    .command('receive [path]', 'Make a volume what a stream from standard input says', receiveBuilder, receive)
    .command('policy', 'Have snapshots taken and pruned by themselves', policies)
    .example('$0 mount ~/verfs', 'mounts the default volume')
    .example('$0 unmount ~/verfs', 'unmounts it')
    .epilogue(exitCodesNote())
    .demandCommand(
      1,
      'Name a command: mount, unmount, status, stats, sync, gc, crypt, volume, snapshot, send, receive or policy',
    )
    .recommendCommands()
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
      throw new UsageError(meant === undefined ? (message ?? '') : `Unknown command; did you mean ${meant}?`);
    });
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
    process.exitCode = reportFailure(thrown, form);
  }
}
