import { CancelledError, type ErrorCode, errorTable } from '@verfs/errors';
import type { Finding, FsckProgress, FsckReport } from '@verfs/sdk';
import type { Argv } from 'yargs';
import { type CommonArguments, type TargetArguments, targetOf } from '../context.ts';
import { createOutput } from '../output.ts';
import { recordsText, startProgress } from '../progress.ts';

interface FsckArguments extends TargetArguments {
  readonly repair: boolean;
}

/** Options of `verfs fsck`. */
export const fsckBuilder = (yargs: Argv<CommonArguments>) =>
  yargs
    .option('volume', { type: 'string', requiresArg: true, describe: 'Directory of the volume' })
    .option('repair', { type: 'boolean', default: false, describe: 'Mend what can be mended; nothing of a file goes' })
    .example('$0 fsck --volume /srv/a', 'tells what is wrong with a volume that is not mounted')
    .example('$0 fsck --repair', 'mends the default volume');

/** The exit code of each outcome, by its row of the error table; `clean` has none. */
const rows: Readonly<Record<FsckReport['verdict'], ErrorCode | undefined>> = {
  clean: undefined,
  found: 'VERFS_E_FSCK_FOUND',
  mended: 'VERFS_E_FSCK_MENDED',
  left: 'VERFS_E_FSCK_LEFT',
};

const words: Readonly<Record<Finding['mending'], string>> = {
  mendable: 'can be mended',
  mended: 'mended',
  left: 'can not be mended',
};

const findingText = ({ code, place, detail, mending }: Finding) => `  ${place}: ${detail} [${code}, ${words[mending]}]`;

/** What a check tells people, line by line. */
export function fsckText(report: FsckReport): string[] {
  const { verdict, findings, mended, mendable, left, pendingLogFrames } = report;
  const advice = mendable === 0 ? 'none of that can be mended' : `${mendable} can be mended: \`verfs fsck --repair\``;
  const heads: Readonly<Record<FsckReport['verdict'], string>> = {
    clean: 'The volume is clean.',
    found: `Wrong: ${mendable + left}, and ${advice}.`,
    mended: `Wrong: ${mended}, and all of that is mended.`,
    left: `Mended: ${mended}. Not mended: ${mendable + left}.`,
  };
  const log =
    pendingLogFrames === 0 ? [] : [`The next mount completes ${pendingLogFrames} synced changes from the log.`];
  return [heads[verdict], ...findings.map(findingText), ...log];
}

/** Tells on a line of `startProgress` how far a check is. */
export function stageTeller(now: () => number): (progress: FsckProgress) => string {
  let current = '';
  let began = now();
  return ({ stage, round, records, expected }) => {
    const name = round > 1 ? `${stage} once more (${round})` : stage;
    if (name !== current) {
      current = name;
      began = now();
    }
    return stage === 'recovering' ? name : `${name}: ${recordsText(records, (now() - began) / 1000, expected)}`;
  };
}

/** Checks, and tells people meanwhile how far it is. Ctrl-C ends it. */
async function run(path: string, args: FsckArguments): Promise<FsckReport> {
  const { Volume } = await import('@verfs/sdk');
  const progress = startProgress(args.repair ? 'fsck --repair' : 'fsck', args);
  const interrupted = new AbortController();
  const stop = () => interrupted.abort();
  process.once('SIGINT', stop);
  const tell = stageTeller(() => performance.now());
  const onProgress = (reached: FsckProgress) => progress.set(tell(reached));
  try {
    return await Volume.fsck(path, { repair: args.repair, onProgress, signal: interrupted.signal });
  } catch (error) {
    if (error instanceof CancelledError) {
      const advice = args.repair ? '`verfs fsck --repair` goes on.' : 'Nothing was changed.';
      throw new CancelledError('The check was stopped', { path, advice, cause: error });
    }
    throw error;
  } finally {
    process.off('SIGINT', stop);
    progress.end();
  }
}

/** Checks a volume that nobody has open, and mends it if asked to. */
export async function fsck(args: FsckArguments): Promise<void> {
  const { path } = await targetOf(args);
  const report = await run(path, args);
  createOutput(args.json ? 'json' : 'text').result(report, () => fsckText(report));
  const row = rows[report.verdict];
  if (row !== undefined) {
    process.exitCode = errorTable[row].exitCode;
  }
}
