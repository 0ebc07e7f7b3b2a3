import { errorTable, toVerfsError } from '@verfs/errors';
import type { Diagnosis, Verdict } from '@verfs/sdk/doctor';
import type { Argv } from 'yargs';
import { type CommonArguments, loadConfig, type TargetArguments, targetOf } from '../context.ts';
import { createOutput } from '../output.ts';

/** Options of `verfs doctor`. */
export const doctorBuilder = (yargs: Argv<CommonArguments>) =>
  yargs
    .positional('path', { type: 'string', describe: 'The mountpoint, or a path in the mount' })
    .option('volume', { type: 'string', requiresArg: true, describe: 'Directory of the volume' })
    .example('$0 doctor', 'looks at this machine, the configuration and the default volume');

const marks: Readonly<Record<Verdict, string>> = { ok: 'ok', note: '--', warning: '!', problem: '!!' };

function text(found: readonly Diagnosis[]): string[] {
  const lines = found.flatMap(({ check, verdict, found: what, advice }) => [
    `${marks[verdict].padEnd(3)} ${check}: ${what}`,
    ...(advice === null ? [] : [`      ${advice}`]),
  ]);
  const wrong = found.filter(({ verdict }) => verdict === 'problem' || verdict === 'warning').length;
  return [...lines, wrong === 0 ? 'Nothing is wrong.' : `${wrong} of ${found.length} checks found something.`];
}

/** Whether the configuration can be used, and where the volume is that is looked at. */
async function configured(args: TargetArguments): Promise<{ readonly found: Diagnosis; readonly volume?: string }> {
  const { diagnosis } = await import('@verfs/sdk/doctor');
  try {
    await loadConfig(args);
    const { path } = await targetOf(args);
    return { found: diagnosis('configuration', 'ok', 'the configuration can be used'), volume: path };
  } catch (thrown) {
    const { message } = toVerfsError(thrown);
    const found = diagnosis('configuration', 'problem', message, 'docs/CONFIG.md lists every key.');
    return args.volume === undefined ? { found } : { found, volume: args.volume };
  }
}

/** Tells what is wrong with this machine or a volume, and what to do about it. */
export async function doctor(args: TargetArguments): Promise<void> {
  const { examineMachine, examineVolume } = await import('@verfs/sdk/doctor');
  const { found: configuration, volume } = await configured(args);
  const found = [
    ...(await examineMachine()),
    configuration,
    ...(volume === undefined ? [] : await examineVolume(volume)),
  ];
  createOutput(args.json ? 'json' : 'text').result(found, () => text(found));
  if (found.some(({ verdict }) => verdict === 'problem')) {
    process.exitCode = errorTable.VERFS_E_DOCTOR.exitCode;
  }
}
