import { readFileSync } from 'node:fs';
import { release } from 'node:os';
import { toVerfsError } from '@verfs/errors';
import { currentMounts, fileSystemType, isStale } from '../mounts.ts';
import { checkFuse } from '../preflight.ts';
import { type Diagnosis, diagnosis } from './check.ts';

/** What the checks read of a machine; tests give another. */
export interface Machine {
  /** Version of the kernel: `6.14.0-37-generic`. */
  readonly kernel: string;
  /** Content of a file, nothing when there is none. */
  read(path: string): string | undefined;
  now(): number;
}

/** The machine that this process runs on. */
export const thisMachine: Machine = {
  kernel: release(),
  read: (path) => {
    try {
      return readFileSync(path, 'utf8');
    } catch {
      return undefined;
    }
  },
  now: () => Date.now(),
};

/** The oldest kernel that VerFS is tested with. */
const kernelMin = [5, 15] as const;
/** The first kernel with io_uring for FUSE. */
const kernelWithRing = [6, 14] as const;
const ringSwitch = '/sys/module/fuse/parameters/enable_uring';
/** Files that a daemon may need at once: packs, logs, tables of the metadata engine, connections. */
const openFilesMin = 1024;
/** No VerFS is older: a clock that says so is wrong. */
const earliest = Date.parse('2026-01-01T00:00:00Z');

function isBefore(kernel: string, [major, minor]: readonly [number, number]): boolean {
  const [, first = '0', second = '0'] = /^(\d+)\.(\d+)/.exec(kernel) ?? [];
  return Number(first) < major || (Number(first) === major && Number(second) < minor);
}

/** Whether mounts can be made at all: /dev/fuse, fusermount3, the rights for it. */
export async function fuse(): Promise<Diagnosis> {
  try {
    await checkFuse('/');
    return diagnosis('fuse', 'ok', '/dev/fuse can be used, and mounts can be made');
  } catch (thrown) {
    const { message } = toVerfsError(thrown);
    return diagnosis('fuse', 'problem', message, 'What is missing and how to get it is said above.');
  }
}

/** The version of the kernel. */
export function kernel({ kernel: version }: Machine): Diagnosis {
  return isBefore(version, kernelMin)
    ? diagnosis('kernel', 'warning', `Linux ${version} is older than what VerFS is tested with`, 'Use 5.15 or newer.')
    : diagnosis('kernel', 'ok', `Linux ${version}`);
}

/** Whether mounts can use io_uring. */
export function ring(machine: Machine): Diagnosis {
  if (isBefore(machine.kernel, kernelWithRing)) {
    return diagnosis('io_uring', 'note', `Linux ${machine.kernel} has no io_uring for FUSE; mounts work without`);
  }
  const value = machine.read(ringSwitch)?.trim();
  if (value === undefined) {
    return diagnosis('io_uring', 'note', 'this kernel was built without io_uring for FUSE; mounts work without');
  }
  return value === 'Y'
    ? diagnosis('io_uring', 'ok', 'io_uring for FUSE is on, and mounts use it')
    : diagnosis('io_uring', 'note', 'io_uring for FUSE is off', `\`echo Y | sudo tee ${ringSwitch}\` switches it on.`);
}

/** How many files may be open. */
export function openFiles(machine: Machine): Diagnosis {
  const [, soft = '', hard = ''] =
    /^Max open files\s+(\S+)\s+(\S+)/m.exec(machine.read('/proc/self/limits') ?? '') ?? [];
  if (soft === '') {
    return diagnosis('open-files', 'warning', 'the limit of open files can not be read', 'Is /proc mounted?');
  }
  return soft !== 'unlimited' && Number(soft) < openFilesMin
    ? diagnosis('open-files', 'warning', `only ${soft} files may be open at once`, `\`ulimit -n ${hard}\` allows more.`)
    : diagnosis('open-files', 'ok', `${soft} files may be open at once`);
}

/** Whether the clock can be right: schedules and times of files follow it. */
export function clock(machine: Machine): Diagnosis {
  const time = new Date(machine.now()).toISOString();
  return machine.now() < earliest
    ? diagnosis('clock', 'problem', `the clock says ${time}, which is past`, 'Set it: `sudo timedatectl set-ntp true`.')
    : diagnosis('clock', 'ok', `the clock says ${time}`);
}

/** Whether mounts are left of daemons that died. */
export async function staleMounts(): Promise<Diagnosis> {
  const mounts = currentMounts().filter(({ type }) => type === fileSystemType);
  const stale: string[] = [];
  for (const { mountpoint } of mounts) {
    if (await isStale(mountpoint)) {
      stale.push(mountpoint);
    }
  }
  return stale.length === 0
    ? diagnosis('stale-mounts', 'ok', `${mounts.length} VerFS mounts, and none of a daemon that died`)
    : diagnosis(
        'stale-mounts',
        'problem',
        `the daemons of these mounts died: ${stale.join(', ')}`,
        '`verfs unmount PATH` detaches each; `verfs mount` does so before it mounts there again.',
      );
}
