import { lstatSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { PermissionError, UsageError } from '@verfs/errors';
import { currentMounts } from './mounts.ts';

/** What a daemon leaves in the runtime directory, so that commands find it. */
export interface Served {
  readonly uuid: string;
  readonly pid: number;
  /** Directory of the volume, without symbolic links. */
  readonly volume: string;
  /** Where it is mounted, without symbolic links. */
  readonly mountpoint: string;
}

/** sun_path of unix(7), less its closing zero. */
const socketPathMaxBytes = 107;

const ownUid = () => process.getuid?.() ?? 0;

/** Whether `path` is a directory of this user into which nobody else may look. */
function isPrivate(path: string): boolean {
  try {
    const status = lstatSync(path);
    return status.isDirectory() && status.uid === ownUid() && (status.mode & 0o077) === 0;
  } catch {
    return false;
  }
}

/**
 * Where the sockets of this user's daemons are: /run/verfs for root, else `verfs` in $XDG_RUNTIME_DIR or /run/user/UID,
 * or /tmp/verfs-UID where there is neither. It doesn't depend on $TMPDIR: a later command may have another.
 */
export function runtimeDirectory(): string {
  const uid = ownUid();
  if (uid === 0) {
    return '/run/verfs';
  }
  const named = process.env['XDG_RUNTIME_DIR'];
  if (named) {
    return join(named, 'verfs');
  }
  const session = `/run/user/${uid}`;
  return isPrivate(session) ? join(session, 'verfs') : `/tmp/verfs-${uid}`;
}

/** The control socket of a volume's daemon. */
export const socketPath = (uuid: string) => join(runtimeDirectory(), `${uuid}.sock`);

const recordPath = (uuid: string) => join(runtimeDirectory(), `${uuid}.json`);

/**
 * Makes the runtime directory, for its owner only.
 *
 * @throws PermissionError when it cannot be made or is not this user's alone; UsageError when its path is too long for
 * a socket.
 */
export function prepareRuntimeDirectory(): void {
  const path = runtimeDirectory();
  const advice =
    ownUid() === 0
      ? 'Make it writable, or remove what is there.'
      : 'Name another in the environment variable XDG_RUNTIME_DIR.';
  if (Buffer.byteLength(socketPath('00000000-0000-0000-0000-000000000000')) > socketPathMaxBytes) {
    throw new UsageError(`The path of the runtime directory ${path} is too long for a socket`, { path, advice });
  }
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new PermissionError(`The runtime directory ${path} cannot be made`, { path, cause, advice });
  }
  if (!isPrivate(path)) {
    throw new PermissionError(`The runtime directory ${path} is open to others`, { path, advice });
  }
}

/** Records a daemon; its record replaces an older one of the same volume. */
export function register(served: Served): void {
  const path = recordPath(served.uuid);
  writeFileSync(`${path}.new`, JSON.stringify(served), { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

/** Removes what `register` and the control socket left. */
export function unregister(uuid: string): void {
  rmSync(recordPath(uuid), { force: true });
  rmSync(socketPath(uuid), { force: true });
}

function isServed(value: unknown): value is Served {
  const record = value as Partial<Served> | null;
  return (
    typeof record === 'object' &&
    typeof record?.uuid === 'string' &&
    typeof record.pid === 'number' &&
    typeof record.volume === 'string' &&
    typeof record.mountpoint === 'string'
  );
}

/** The daemons of this user. One that was killed may still be among them: its socket does not answer. */
export function registered(): Served[] {
  if (!isPrivate(runtimeDirectory())) {
    return [];
  }
  const names = readdirSync(runtimeDirectory());
  const records: Served[] = [];
  for (const name of names.filter((entry) => entry.endsWith('.json'))) {
    try {
      const record: unknown = JSON.parse(readFileSync(join(runtimeDirectory(), name), 'utf8'));
      if (isServed(record)) {
        records.push(record);
      }
    } catch {
      // Removed meanwhile by its daemon, or cut short by a crash: either way nobody is served by it.
    }
  }
  return records;
}

/** Whether a daemon listens on the socket at `path`. */
export function answersAt(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

/** Whether a registered daemon is there, or at least the mount that it left when it died. */
export function mayServe({ pid, volume, mountpoint }: Served): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return currentMounts().some((mount) => mount.source === volume && mount.mountpoint === mountpoint);
  }
}

/** Removes what daemons left that were killed, once their mounts are gone as well. */
export async function forgetDead(): Promise<void> {
  for (const served of registered().filter((one) => !mayServe(one))) {
    // A process of another container has no number here, but its socket answers.
    if (!(await answersAt(socketPath(served.uuid)))) {
      unregister(served.uuid);
    }
  }
}
