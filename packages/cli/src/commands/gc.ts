import { UsageError } from '@verfs/errors';
import type { GcProgress, GcStatus, Reclaimable } from '@verfs/sdk';
import type { Argv } from 'yargs';
import type { CommonArguments, TargetArguments } from '../context.ts';
import { formatBytes, formatRows } from '../format.ts';
import { createOutput } from '../output.ts';
import { withProgress } from '../progress.ts';
import { type VolumeAccess, withVolume } from '../volume-access.ts';

interface GcArguments extends TargetArguments {
  readonly now?: boolean | undefined;
  readonly 'dry-run'?: boolean | undefined;
  readonly status?: boolean | undefined;
}

/** Options of `verfs gc`. */
export const gcBuilder = (yargs: Argv<CommonArguments>) =>
  yargs
    .positional('path', { type: 'string', describe: 'The mountpoint, or a path in the mount' })
    .option('volume', { type: 'string', requiresArg: true, describe: 'Directory of the volume' })
    .option('now', { type: 'boolean', describe: 'Collect now, and wait for it' })
    .option('dry-run', { type: 'boolean', describe: 'Tell what could be collected, and change nothing' })
    .option('status', { type: 'boolean', describe: 'Tell what collection does now, as without an option' })
    .example('$0 gc --now ~/verfs', 'gives the room of deleted data back to the disk')
    .example('$0 gc --dry-run ~/verfs', 'how much that would be');

const left = ({ packsLeft }: GcProgress): string[] =>
  packsLeft === 0 ? [] : [`${packsLeft} packs were left alone: they are damaged or in use; see the log.`];

function progressText({ phase, packsRemoved, packsListed, reclaimedBytes, movedBytes }: GcProgress): string {
  return `${phase}: ${packsRemoved} of ${packsListed} packs, ${formatBytes(reclaimedBytes)} reclaimed, ${formatBytes(movedBytes)} moved`;
}

function statusText(status: GcStatus): string[] {
  return formatRows([
    ['Now', status.active ? progressText(status.running) : 'idle'],
    ['Dead', `${formatBytes(status.deadBytes)}, beside ${formatBytes(status.storedBytes)} that are needed`],
    ['Reclaimed', `${formatBytes(status.reclaimedBytes)} in ${status.collections} collections since it was opened`],
    ['Moved', `${formatBytes(status.movedBytes)} for that`],
    ...(status.failure === '' ? [] : ([['Last failure', status.failure]] as const)),
  ]);
}

const planText = ({ packs, deadBytes, liveBytes }: Reclaimable): string[] => [
  `${formatBytes(deadBytes)} in ${packs} packs could be reclaimed; ${formatBytes(liveBytes)} would be moved for it.`,
];

/** Collects, and tells people meanwhile how far it is. */
function collect(volume: VolumeAccess, args: CommonArguments): Promise<GcProgress> {
  const howFar = async () => progressText((await volume.gcStatus()).running);
  return withProgress('collecting', args, () => volume.gc(), howFar);
}

/** Collects garbage, or tells about it. */
export async function gc(args: GcArguments): Promise<void> {
  const output = createOutput(args.json ? 'json' : 'text');
  if ([args.now, args['dry-run'], args.status].filter((given) => given === true).length > 1) {
    throw new UsageError('--now, --dry-run and --status exclude each other');
  }
  if (args.now === true) {
    const done = await withVolume(args, (volume) => collect(volume, args));
    const text = `${formatBytes(done.reclaimedBytes)} reclaimed: ${done.packsRemoved} packs removed, ${formatBytes(done.movedBytes)} moved.`;
    output.result(done, () => [text, ...left(done)]);
  } else if (args['dry-run'] === true) {
    const plan = await withVolume(args, (volume) => volume.gcPlan());
    output.result(plan, () => planText(plan));
  } else {
    const status = await withVolume(args, (volume) => volume.gcStatus());
    output.result(status, () => statusText(status));
  }
}
