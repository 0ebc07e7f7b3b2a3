import { readdirSync, writeFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import { IoError, PathNotFoundError, UsageError } from '@verfs/errors';
import type { Argv } from 'yargs';
import { type CommonArguments, type TargetArguments, targetOf } from '../context.ts';
import { type DedupReport, dedupPage, type ReportedPart } from '../dedup-page.ts';
import { formatBytes, formatTable, printable, ratio } from '../format.ts';
import { createOutput } from '../output.ts';
import { startProgress } from '../progress.ts';
import { pathInVolume } from '../volume-paths.ts';

interface ReportArguments extends CommonArguments, Pick<TargetArguments, 'volume'> {
  readonly directory?: string | undefined;
  readonly html?: string | undefined;
  readonly top: number;
}

/** Options of `verfs dedup-report`. */
export const reportBuilder = (yargs: Argv<CommonArguments>) =>
  yargs
    .positional('directory', { type: 'string', describe: 'A directory in a mount; by default all of the volume' })
    .option('volume', { type: 'string', requiresArg: true, describe: 'Directory of the volume' })
    .option('html', { type: 'string', requiresArg: true, describe: 'Write a page with plots to this file' })
    .option('top', { type: 'number', default: 30, requiresArg: true, describe: 'How many entries, the largest first' })
    .example('$0 dedup-report ~/verfs --html report.html', 'what each directory takes, and shares with the others');

function table({ whole, parts }: DedupReport): string[] {
  const rows = [...parts, whole].map(({ path, usage }) => [
    printable(path),
    ...[usage.logicalBytes, usage.uniqueBytes, usage.sharedBytes, usage.storedBytes, usage.exclusiveBytes].map(
      formatBytes,
    ),
    `${ratio(usage.logicalBytes, usage.uniqueBytes).toFixed(2)}x`,
  ]);
  const numbers = ['Logical', 'Unique', 'Shared', 'Stored', 'Its own', 'Dedup'];
  return formatTable(['Path', ...numbers], rows, numbers);
}

function writePage(file: string, report: DedupReport): void {
  try {
    writeFileSync(file, dedupPage(report));
  } catch (cause) {
    const advice = 'Name another file.';
    throw new IoError(`The page cannot be written: ${(cause as Error).message}`, { path: file, cause, advice });
  }
}

/** Nothing of an entry that went since it was listed. */
function unlessGone(error: unknown): undefined {
  if (error instanceof PathNotFoundError) {
    return undefined;
  }
  throw error;
}

/** Shows what the entries of a directory take, and share with what else there is. */
export async function dedupReport(args: ReportArguments): Promise<void> {
  if (!(Number.isInteger(args.top) && args.top > 0)) {
    throw new UsageError(`--top ${args.top} is no count`, { advice: 'Write a whole number from 1 on.' });
  }
  const { resolveLinks } = await import('@verfs/sdk/mounts');
  const { VolumeClient } = await import('@verfs/sdk/control');
  const given = args.directory === undefined ? undefined : await resolveLinks(args.directory);
  const target = await targetOf(given === undefined ? args : { ...args, path: given });
  await using client = await VolumeClient.connect(target.path);
  const { mountpoint, volume } = client.served;
  const directory = given === undefined ? '' : pathInVolume(given, mountpoint, process.cwd());
  // Snapshots and the vault are no part of the tree that is counted.
  const names = readdirSync(join(mountpoint, directory)).filter(
    (name) => directory !== '' || !['.snapshots', '.vault'].includes(name),
  );
  const progress = startProgress('counting', args);
  const parts: ReportedPart[] = [];
  try {
    for (const [counted, name] of names.entries()) {
      progress.set(`${counted} of ${names.length} entries`);
      const path = posix.join(directory, name);
      const usage = await client.usage(path).catch(unlessGone);
      if (usage !== undefined) {
        parts.push({ path: `/${path}`, usage });
      }
    }
    const whole = { path: `/${directory}`, usage: await client.usage(directory) };
    parts.sort((a, b) => b.usage.logicalBytes - a.usage.logicalBytes);
    const report = { volume, whole, parts: parts.slice(0, args.top), time: Date.now() };
    if (args.html !== undefined) {
      writePage(args.html, report);
    }
    const written = args.html === undefined ? [] : ['', `The page is ${args.html}.`];
    createOutput(args.json ? 'json' : 'text').result(report, () => [...table(report), ...written]);
  } finally {
    progress.end();
  }
}
