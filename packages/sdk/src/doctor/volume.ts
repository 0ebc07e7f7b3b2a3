import { access, constants, statfs } from 'node:fs/promises';
import { toVerfsError, VerfsError } from '@verfs/errors';
import type { VolumeInfo } from '@verfs/native';
import type { DaemonStatus } from '../control/protocol.ts';
import { type Diagnosis, diagnosis } from './check.ts';

/** Below this part of the disk, or below this many bytes, writes may soon be refused. */
const lowShare = 0.05;
const lowMaxBytes = 1024 ** 3;
/** Nobody checked the volume for so long, in milliseconds. */
const scrubbedWithinMs = 60 * 86_400_000;

const gibibytes = (bytes: number) => `${(bytes / 1024 ** 3).toFixed(1)} GiB`;

/** Whether there is a volume, and its superblock is whole. */
export async function superblock(path: string, inspect: (path: string) => Promise<VolumeInfo>): Promise<Diagnosis> {
  try {
    const { uuid, holderPid } = await inspect(path);
    const use = holderPid == null ? 'nobody has it open' : `process ${holderPid} has it open`;
    return diagnosis('volume', 'ok', `${path} is the volume ${uuid}; ${use}`);
  } catch (thrown) {
    const { code, message } = toVerfsError(thrown);
    return code === 'VERFS_E_NOT_A_VOLUME'
      ? diagnosis(
          'volume',
          'note',
          `there is no volume at ${path}`,
          '`verfs mount` or `verfs volume create` makes one.',
        )
      : diagnosis('volume', 'problem', message, 'Nothing of the volume was changed.');
  }
}

/** Whether the directory of the volume may be written. */
export async function writable(path: string): Promise<Diagnosis> {
  try {
    await access(path, constants.R_OK | constants.W_OK | constants.X_OK);
    return diagnosis('permissions', 'ok', `${path} may be read and written`);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const advice = 'Work as its owner, on a disk that takes writes.';
    return diagnosis('permissions', 'problem', `${path} may not be written: ${reason}`, advice);
  }
}

/** Whether the disk under the volume has room. */
export async function space(path: string): Promise<Diagnosis> {
  const { bavail, blocks, bsize } = await statfs(path);
  const [free, total] = [bavail * bsize, blocks * bsize];
  return free < Math.min(total * lowShare, lowMaxBytes)
    ? diagnosis(
        'space',
        'warning',
        `only ${gibibytes(free)} of ${gibibytes(total)} are free on the disk of ${path}`,
        'Free some, delete files and snapshots in the volume, then `verfs gc --now`.',
      )
    : diagnosis('space', 'ok', `${gibibytes(free)} of ${gibibytes(total)} are free on the disk of ${path}`);
}

/** What the daemon of a mounted volume knows. */
export function served(status: DaemonStatus): Diagnosis[] {
  const { damaged, policy, scrub, mountpoint } = status;
  const failure = policy?.lastError ?? null;
  return [
    damaged.length === 0
      ? diagnosis('damage', 'ok', `no damaged file was met since it was mounted at ${mountpoint}`)
      : diagnosis(
          'damage',
          'problem',
          `${damaged.length} damaged files were met: ${damaged.map(({ path }) => path).join(', ')}`,
          'Restore them from a copy, or from a snapshot; check the disk with smartctl(8).',
        ),
    failure === null
      ? diagnosis('policy', 'ok', 'the snapshot policy does what it should')
      : diagnosis('policy', 'warning', `the snapshot policy failed: ${failure.message}`, 'The log has the details.'),
    scrubbed(scrub.ended?.ended, Date.now()),
  ];
}

/** Whether everything stored was checked lately. */
export function scrubbed(ended: number | undefined, now: number): Diagnosis {
  if (ended !== undefined && now - ended < scrubbedWithinMs) {
    return diagnosis('scrub', 'ok', `everything stored was checked at ${new Date(ended).toISOString()}`);
  }
  const found = ended === undefined ? 'what is stored was never checked' : 'what is stored was not checked for 60 days';
  return diagnosis(
    'scrub',
    'note',
    found,
    '`verfs scrub --now` does it; `verfs policy set --scrub monthly` each month.',
  );
}

/** What can't be looked at. */
export const unanswered = (check: string, thrown: unknown): Diagnosis => {
  const message = thrown instanceof VerfsError ? thrown.message : String(thrown);
  return diagnosis(check, 'problem', message, 'See the log file of the daemon.');
};
