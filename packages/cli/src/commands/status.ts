import { NotMountedError, VerfsError } from '@verfs/errors';
import type { PolicyProgress, ScrubStatus, VaultStatus, VolumeInfo } from '@verfs/sdk';
import type { DaemonStatus } from '@verfs/sdk/control';
import type { Argv } from 'yargs';
import { type CommonArguments, type TargetArguments, targetOf } from '../context.ts';
import { formatBytes, formatRows, formatTime } from '../format.ts';
import { createOutput } from '../output.ts';

/** Options of `verfs status`. */
export const statusBuilder = (yargs: Argv<CommonArguments>) =>
  yargs
    .positional('path', { type: 'string', describe: 'The mountpoint, or a path in the mount' })
    .option('volume', { type: 'string', requiresArg: true, describe: 'Directory of the volume' })
    .example('$0 status', 'tells about the default volume')
    .example('$0 status ~/verfs --json', 'the same for programs, with the pid of the daemon');

function policyRows({ schedule, next, lastError }: PolicyProgress): [string, string][] {
  const when = next === null ? '' : `, next ${formatTime(next)}`;
  const failed = lastError === null ? '' : `; failed ${formatTime(lastError.time)}: ${lastError.message}`;
  return [['Snapshots', `${schedule}${when}${failed}`]];
}

const spaceText = {
  enough: '',
  low: ', the disk is nearly full',
  full: ': the disk is full, and changes are refused',
};

type Task = DaemonStatus['tasks'][number];

const seconds = (ms: number) => `${Math.round(ms / 1000)} s`;

/** Of what works in the background only what does something, or can't. */
function taskText({ name, state, busyMs, restarts, detail }: Task): string[] {
  if (state === 'idle' && restarts === 0) {
    return [];
  }
  const since = busyMs >= 1000 ? ` for ${seconds(busyMs)}` : '';
  const again = restarts === 0 ? '' : `, begun anew ${restarts} times after a defect`;
  return [`  ${name}: ${state}${since}${again}${detail === '' ? '' : `: ${detail}`}`];
}

/** The last scrub, and the one that runs, in a few words. */
export function scrubText({ active, interrupted, running, ended, failure }: ScrubStatus): string {
  const seen = formatBytes(running.tally.bytes);
  const now = active
    ? `running, ${seen} of ${formatBytes(running.totalBytes)}; `
    : interrupted
      ? `stopped at ${seen}; `
      : '';
  const failed = failure === '' ? '' : `; failed: ${failure}`;
  if (ended == null) {
    return `${now}none has ended${failed}`;
  }
  const { damaged, bytes } = ended.tally;
  const found = damaged === 0 ? 'nothing is damaged' : `${damaged} damaged records`;
  return `${now}last ${formatTime(ended.ended)}: ${formatBytes(bytes)}, ${found}${failed}`;
}

function mountedText(status: DaemonStatus & { readonly vault: VaultStatus['state'] }): string[] {
  return [
    ...formatRows([
      ['Volume', `${status.volume} (${status.uuid})`],
      ['Mounted at', `${status.mountpoint}, ${status.access}, since ${formatTime(status.since)}`],
      ['Daemon', `process ${status.pid}, VerFS ${status.version}`],
      ['Log', status.logFile],
      ['To be written', formatBytes(status.dirtyBytes)],
      ...(status.policy === null ? [] : policyRows(status.policy)),
      ...(status.vault === 'absent' ? [] : ([['Vault', status.vault]] as const)),
      ...(status.stillForMs === null
        ? []
        : ([
            ['Held still', `for ${seconds(status.stillForMs)} yet: writers wait; \`verfs volume thaw\` ends it`],
          ] as const)),
      ['Room', `${formatBytes(status.space.freeBytes)}${spaceText[status.space.state]}`],
      ['Scrub', scrubText(status.scrub)],
      ['Damaged files', String(status.damaged.length)],
      ['Overdue requests', String(status.overdue.reduce((sum, { count }) => sum + count, 0))],
    ]),
    ...status.tasks.flatMap(taskText),
    ...status.overdue.map(
      ({ session, op, count, longestMs }) =>
        `  ${op}${session === 'tree' ? '' : ` in ${session}`}: ${count} wait for the disk, up to ${seconds(longestMs)}`,
    ),
    ...status.damaged.map(({ path, pack, detail }) => `  ${path}: pack ${pack}: ${detail}`),
  ];
}

function unmountedText(info: VolumeInfo): string[] {
  const state = info.holderPid == null ? 'no' : `no, but process ${info.holderPid} has it open`;
  return formatRows([
    ['Volume', `${info.path} (${info.uuid})`],
    ['Mounted', state],
  ]);
}

/** Tells whether and where a volume is mounted. */
export async function status(args: TargetArguments): Promise<void> {
  const output = createOutput(args.json ? 'json' : 'text');
  const target = await targetOf(args);
  const { findServed, refuseUnserved, VolumeClient } = await import('@verfs/sdk/control');
  const served = await findServed(target.path);
  if (served !== undefined) {
    await using client = await VolumeClient.to(served);
    const answer = await client.status();
    const { state } = await client.vault.status();
    // They are told apart: whoever has the volume open is not to keep names of the vault.
    const inVault = state === 'unlocked' ? await client.vault.damaged() : [];
    const whole = { ...answer, vault: state, damaged: [...answer.damaged, ...inVault] };
    output.result(whole, () => mountedText(whole));
    return;
  }
  if (target.given === 'path') {
    await refuseUnserved(target.path);
  }
  const { Volume } = await import('@verfs/sdk');
  try {
    const info = await Volume.inspect(target.path);
    const { path: volume, uuid, holderPid } = info;
    output.result({ state: 'unmounted', volume, uuid, holderPid: holderPid ?? null }, () => unmountedText(info));
  } catch (error) {
    if (error instanceof VerfsError && error.code === 'VERFS_E_NOT_A_VOLUME' && target.given === 'path') {
      const advice = 'Name a path inside a mount, or a volume with `--volume DIR`.';
      throw new NotMountedError(`${target.path} is in no mounted VerFS volume`, { path: target.path, advice });
    }
    throw error;
  }
}
