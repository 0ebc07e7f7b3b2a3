import { chmodSync } from 'node:fs';
import { type CommandOptions, type Outcome, run } from './command.ts';
import type { Sandbox } from './sandbox.ts';

/** Whether the tests run as root: only then do they act as several users. */
export const isRoot = process.getuid?.() === 0;

/** A user without any rights, whom every Linux has. */
export const nobody = { uid: 65_534, gid: 65_534 };

/** How to run something as `nobody` when root runs the tests, and as the same user otherwise. */
export const asNobody: readonly string[] = isRoot
  ? ['setpriv', `--reuid=${nobody.uid}`, `--regid=${nobody.gid}`, '--clear-groups']
  : ['env'];

/** Mounts the volume of `sandbox` so that other users get in; devices and set-id programs work. */
export async function mountForAll(sandbox: Sandbox): Promise<number> {
  chmodSync(sandbox.root, 0o711);
  const { pid } = await sandbox.mount(isRoot ? ['--allow-other', '-o', 'dev,suid'] : []);
  return pid;
}

/** Runs a program as a user without rights. */
export function runAsNobody(program: string, args: readonly string[], options: CommandOptions = {}): Promise<Outcome> {
  const [first, ...others] = [...asNobody, program, ...args];
  return run(first as string, others, options);
}
