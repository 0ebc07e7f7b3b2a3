import { chownSync } from 'node:fs';
import { type CommandOptions, type Outcome, run } from './command.ts';
import { verfsProgram } from './sandbox.ts';

const isRoot = process.getuid?.() === 0;

/** Scripts for `sh`, around a command in a mount namespace. */
export interface Around {
  readonly before: string;
  /** Fails the command with exit code 99 when it fails. */
  readonly after?: string;
}

/**
 * Runs `verfs` in a mount namespace of its own. What is mounted there goes with it. Also without root rights: in a user
 * namespace then.
 */
export function verfsInNamespace(
  { before, after = 'true' }: Around,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<Outcome> {
  const flags = isRoot ? ['--mount'] : ['--mount', '--user', '--map-root-user'];
  const script = `set -e; ${before}; set +e; "$@"; code=$?; ${after} || exit 99; exit $code`;
  return run('unshare', [...flags, 'sh', '-c', script, 'sh', process.execPath, verfsProgram, ...args], options);
}

/** Runs `verfs` as an ordinary user whose programs are in `path`. He may read what this user may. */
export function verfsAsUser(args: readonly string[], path: string, options: CommandOptions = {}): Promise<Outcome> {
  const flags = ['--user', '--map-user=1000', '--map-group=1000', 'env', `PATH=${path}`];
  return run('unshare', [...flags, process.execPath, verfsProgram, ...args], options);
}

/** Rights of root, as capabilities(7) names them. */
export type Capability = 'sys_admin' | 'dac_override' | 'dac_read_search';

/** Runs `verfs` with this user's id, but without some rights of root. */
export function verfsWithout(
  capabilities: readonly Capability[],
  args: readonly string[],
  options: CommandOptions = {},
): Promise<Outcome> {
  const command = [process.execPath, verfsProgram, ...args];
  if (!isRoot) {
    return run(command[0] as string, command.slice(1), options);
  }
  const dropped = capabilities.map((name) => `-${name}`).join(',');
  return run('setpriv', [`--bounding-set=${dropped}`, '--inh-caps=-all', ...command], options);
}

/** The user `nobody` of most systems. */
const nobody = 65_534;

/**
 * Runs a script of `sh` as an ordinary user, who mounts with fusermount3, in a mount namespace of its own, where every
 * user may open /dev/fuse. It may read this repository wherever that is. `verfs` is the command.
 */
export function shellAsUser(script: string, options: CommandOptions = {}): Promise<Outcome> {
  const verfs = `verfs() { '${process.execPath}' '${verfsProgram}' "$@"; }`;
  const command = ['sh', '-c', `${verfs}; ${script}`];
  if (!isRoot) {
    return run('sh', command.slice(1), options);
  }
  const device = 'mount -t tmpfs tmpfs /mnt; mknod -m 666 /mnt/fuse c 10 229; mount --bind /mnt/fuse /dev/fuse';
  const caps = '+dac_read_search';
  const user = ['setpriv', `--reuid=${nobody}`, `--regid=${nobody}`, '--clear-groups'];
  const args = [...user, `--inh-caps=${caps}`, `--ambient-caps=${caps}`, ...command];
  return run('unshare', ['--mount', 'sh', '-e', '-c', `${device}; exec "$@"`, 'sh', ...args], options);
}

/** Makes `path` the user's of `shellAsUser`. */
export function giveToUser(path: string): void {
  if (isRoot) {
    chownSync(path, nobody, nobody);
  }
}
