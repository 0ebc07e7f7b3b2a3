import { writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { errorTable, IoError, shellQuoted, TargetExistsError, toVerfsError } from '@verfs/errors';
import type { Diagnosis, Verdict } from '@verfs/sdk/doctor';
import type { Argv } from 'yargs';
import { type CommonArguments, loadConfig, placeOf, type TargetArguments, targetOf } from '../context.ts';
import { createOutput } from '../output.ts';

interface DoctorArguments extends TargetArguments {
  readonly bundle?: string | undefined;
}

/** Options of `verfs doctor`. */
export const doctorBuilder = (yargs: Argv<CommonArguments>) =>
  yargs
    .positional('path', { type: 'string', describe: 'The mountpoint, or a path in the mount' })
    .option('volume', { type: 'string', requiresArg: true, describe: 'Directory of the volume' })
    .option('bundle', {
      type: 'string',
      requiresArg: true,
      describe: 'Write what somebody who helps needs to know to this new file, without names and contents',
    })
    .example('$0 doctor', 'looks at this machine, the configuration and the default volume')
    .example('$0 doctor --bundle bundle.json', 'gathers what to send along with a question');

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

/** Writes a new file, compressed if its name says so. */
async function writeBundle(file: string, bundle: object): Promise<void> {
  const json = `${JSON.stringify(bundle, null, 1)}\n`;
  try {
    await writeFile(file, file.endsWith('.gz') ? await promisify(gzip)(json) : json, { flag: 'wx', mode: 0o600 });
  } catch (thrown) {
    const cause = thrown as NodeJS.ErrnoException;
    throw cause.code === 'EEXIST'
      ? new TargetExistsError(`There is something at ${file} already`, { path: file, cause })
      : new IoError(`${file} cannot be written: ${cause.message}`, { path: file, cause });
  }
}

/** Tells what is wrong with this machine or a volume, and what to do about it. */
export async function doctor(args: DoctorArguments): Promise<void> {
  const { examineMachine, examineVolume, supportBundle } = await import('@verfs/sdk/doctor');
  const { found: configuration, volume } = await configured(args);
  const found = [
    ...(await examineMachine()),
    configuration,
    ...(volume === undefined ? [] : await examineVolume(volume)),
  ];
  const output = createOutput(args.json ? 'json' : 'text');
  if (args.bundle !== undefined) {
    const file = placeOf(args.bundle);
    await writeBundle(file, await supportBundle({ found, volume, config: args.config }));
    output.result({ bundle: file }, () => [
      `Wrote ${shellQuoted(file)}: names and contents of files are not in it. Look at it before you send it.`,
    ]);
    return;
  }
  output.result(found, () => text(found));
  if (found.some(({ verdict }) => verdict === 'problem')) {
    process.exitCode = errorTable.VERFS_E_DOCTOR.exitCode;
  }
}
