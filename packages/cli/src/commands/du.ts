import type { Usage } from '@verfs/sdk';
import type { Argv } from 'yargs';
import type { CommonArguments, TargetArguments } from '../context.ts';
import { formatBytes, formatEntries, formatRows, printable, ratio } from '../format.ts';
import { createOutput } from '../output.ts';
import { withProgress } from '../progress.ts';
import { withVolume } from '../volume-access.ts';
import { pathInVolume } from '../volume-paths.ts';

interface UsageArguments extends CommonArguments, Pick<TargetArguments, 'volume'> {
  readonly directory?: string | undefined;
}

/** Options of `verfs du`. */
export const duBuilder = (yargs: Argv<CommonArguments>) =>
  yargs
    .positional('directory', {
      type: 'string',
      describe: 'A file or directory in a mount, or with --volume from the root of the volume; by default all of it',
    })
    .option('volume', { type: 'string', requiresArg: true, describe: 'Directory of the volume' })
    .example('$0 du ~/verfs/projects', 'what it takes, once duplicates are stored once')
    .example('$0 du projects --volume /srv/a', 'the same of a volume that need not be mounted');

function usageText(path: string, usage: Usage): string[] {
  const { logicalBytes, uniqueBytes, sharedBytes, storedBytes, exclusiveBytes } = usage;
  const dedup = ratio(logicalBytes, uniqueBytes).toFixed(2);
  const compression = ratio(uniqueBytes, storedBytes).toFixed(2);
  return formatRows([
    ['Path', `/${printable(path)}`],
    ['Files', formatEntries(usage)],
    ['Logical', formatBytes(logicalBytes)],
    ['Unique', `${formatBytes(uniqueBytes)} (dedup ${dedup}x)`],
    ['Shared', `${formatBytes(sharedBytes)} of that with other files of the volume`],
    ['Stored', `${formatBytes(storedBytes)} (compression ${compression}x)`],
    ['Its own', `${formatBytes(exclusiveBytes)} of that: what its deletion would give back, snapshots aside`],
  ]);
}

/** Shows what a part of a volume takes. */
export async function du(args: UsageArguments): Promise<void> {
  const { directory, volume } = args;
  const { resolveLinks } = await import('@verfs/sdk/mounts');
  // In a mount the way to it may lead through links; from the root of a volume it is as it is said.
  const given = directory === undefined || volume !== undefined ? directory : await resolveLinks(directory);
  const target = volume === undefined ? { ...args, path: given } : args;
  const answer = await withVolume(target, async (access, mountpoint) => {
    const path = given === undefined ? '' : pathInVolume(given, mountpoint, process.cwd());
    return { path, ...(await withProgress('counting', args, () => access.usage(path))) };
  });
  createOutput(args.json ? 'json' : 'text').result(answer, () => usageText(answer.path, answer));
}
