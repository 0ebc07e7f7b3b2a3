import { CancelledError, errorTable, UsageError } from '@verfs/errors';
import type { ScrubResult, ScrubTally } from '@verfs/sdk';
import type { Argv } from 'yargs';
import type { CommonArguments, TargetArguments } from '../context.ts';
import { formatBytes, formatCount, formatRows } from '../format.ts';
import { createOutput } from '../output.ts';
import { startProgress, transferText } from '../progress.ts';
import { type VolumeAccess, withVolume } from '../volume-access.ts';
import { scrubText } from './status.ts';

interface ScrubArguments extends TargetArguments {
  readonly now?: boolean | undefined;
  readonly stop?: boolean | undefined;
  readonly status?: boolean | undefined;
  readonly rate?: string | undefined;
}

/** Options of `verfs scrub`. */
export const scrubBuilder = (yargs: Argv<CommonArguments>) =>
  yargs
    .positional('path', { type: 'string', describe: 'The mountpoint, or a path in the mount' })
    .option('volume', { type: 'string', requiresArg: true, describe: 'Directory of the volume' })
    .option('now', { type: 'boolean', describe: 'Check now, and wait for it; goes on where one was stopped' })
    .option('rate', { type: 'string', requiresArg: true, describe: 'Data that is read in a second at most: 20MiB' })
    .option('stop', { type: 'boolean', describe: 'Stop the check that runs; it can go on later' })
    .option('status', { type: 'boolean', describe: 'Tell what was checked, as without an option' })
    .example('$0 scrub --now ~/verfs', 'reads everything stored, and names the files of what is damaged')
    .example('$0 policy set --scrub monthly', 'has it done by itself');

async function rateOf(text: string | undefined): Promise<number | undefined> {
  if (text === undefined) {
    return undefined;
  }
  const { parseQuantity, sizeUnits } = await import('@verfs/config/units');
  const rate = parseQuantity(text.replace(/\/s$/, ''), sizeUnits);
  if (typeof rate !== 'number' || rate < 1) {
    throw new UsageError(`--rate is a size such as 20MiB, and is ${text} now`);
  }
  return Math.round(rate);
}

function tallyText(tally: ScrubTally): string[] {
  return [
    `${formatCount(tally.records, 'record')} in ${formatCount(tally.packs, 'pack')}, ${formatBytes(tally.bytes)}`,
    ...(tally.sealed > 0 ? [`${formatCount(tally.sealed, 'record')} of the locked vault: checksums only`] : []),
    ...(tally.indexesMended > 0 ? [`${formatCount(tally.indexesMended, 'index', 'indexes')} made anew`] : []),
    ...(tally.deadDamaged > 0 ? [`${formatCount(tally.deadDamaged, 'damaged record')} that nothing needs`] : []),
  ];
}

/** Scrubs, and tells people meanwhile how far it is. Ctrl-C stops it where it is. */
async function run(volume: VolumeAccess, args: ScrubArguments): Promise<ScrubResult> {
  const rateBytes = await rateOf(args.rate);
  const progress = startProgress('checking', args);
  const interrupted = new AbortController();
  const stop = () => interrupted.abort();
  process.once('SIGINT', stop);
  const began = performance.now();
  // What an earlier call saw does not count for the rate.
  let first: number | undefined;
  try {
    const work = volume.scrub({ rateBytes, signal: interrupted.signal });
    for await (const { tally, totalBytes } of work) {
      first ??= tally.bytes;
      const seconds = (performance.now() - began) / 1000;
      progress.set(transferText(tally.bytes - first, seconds, Math.max(totalBytes - first, 0)));
    }
    return await work;
  } catch (error) {
    if (error instanceof CancelledError) {
      throw new CancelledError('The check was stopped', { advice: '`verfs scrub --now` goes on.', cause: error });
    }
    throw error;
  } finally {
    process.off('SIGINT', stop);
    progress.end();
  }
}

async function check(args: ScrubArguments): Promise<void> {
  const { result, files } = await withVolume(args, async (volume) => {
    const done = await run(volume, args);
    return { result: done, files: done.tally.damaged > 0 ? (await volume.stats()).damaged : [] };
  });
  const { end, tally } = result;
  createOutput(args.json ? 'json' : 'text').result({ ...result, files }, () => [
    end === 'done' ? 'Everything was checked.' : 'It was stopped; `verfs scrub --now` goes on.',
    ...tallyText(tally),
    tally.damaged === 0 ? 'Nothing is damaged.' : `${formatCount(tally.damaged, 'damaged record')}:`,
    ...files.map(({ path, pack, detail }) => `  ${path}: pack ${pack}: ${detail}`),
  ]);
  if (tally.damaged > 0) {
    process.exitCode = errorTable.VERFS_E_DAMAGED.exitCode;
  }
}

/** Checks what is stored, or tells about it. */
export async function scrub(args: ScrubArguments): Promise<void> {
  if ([args.now, args.stop, args.status].filter((given) => given === true).length > 1) {
    throw new UsageError('--now, --stop and --status exclude each other');
  }
  if (args.rate !== undefined && args.now !== true) {
    throw new UsageError('--rate is for --now');
  }
  if (args.now === true) {
    await check(args);
    return;
  }
  const status = await withVolume(args, async (volume) => {
    if (args.stop === true) {
      await volume.scrubStop();
    }
    return await volume.scrubStatus();
  });
  createOutput(args.json ? 'json' : 'text').result(status, () => [
    ...formatRows([['Scrub', scrubText(status)]]),
    ...(status.ended == null ? [] : tallyText(status.ended.tally).map((line) => `  ${line}`)),
  ]);
}
