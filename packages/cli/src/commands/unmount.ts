import { DaemonDiedError, NotMountedError } from '@verfs/errors';
import type { Argv } from 'yargs';
import { type CommonArguments, type TargetArguments, targetOf } from '../context.ts';
import { createOutput } from '../output.ts';
import { withProgress } from '../progress.ts';

/** Options of `verfs unmount`. */
export const unmountBuilder = (yargs: Argv<CommonArguments>) =>
  yargs
    .positional('path', { type: 'string', describe: 'The mountpoint' })
    .option('volume', { type: 'string', requiresArg: true, describe: 'Directory of the volume' })
    .example('$0 unmount ~/verfs', 'makes everything durable and unmounts')
    .example('$0 unmount --volume /srv/a', 'unmounts that volume, wherever it is mounted');

/** Unmounts: through the daemon, or, where that is dead, by detaching what it left. */
export async function unmount(args: TargetArguments): Promise<void> {
  const output = createOutput(args.json ? 'json' : 'text');
  const target = await targetOf(args);
  const { findServed, refuseUnserved, VolumeClient } = await import('@verfs/sdk/control');
  const { currentMounts, detachStale, fileSystemType, isStale, mountOf, resolveLinks } = await import(
    '@verfs/sdk/mounts'
  );
  const served = await findServed(target.path);
  let death: unknown;
  if (served !== undefined) {
    try {
      await using client = await VolumeClient.to(served);
      const { daemon } = await withProgress('making it durable', args, () => client.unmount());
      const { volume, mountpoint, pid } = served;
      output.result({ volume, mountpoint, daemon }, () => [
        `Unmounted ${mountpoint}. Everything is durable.`,
        ...(daemon === 'lingers' ? [`Process ${pid} serves those who have files open there, and ends with them.`] : []),
      ]);
      return;
    } catch (error) {
      if (!(error instanceof DaemonDiedError)) {
        throw error;
      }
      death = error;
    }
  }
  const path = served?.mountpoint ?? (await resolveLinks(target.path));
  const mount = mountOf(path, currentMounts());
  if (mount?.type === fileSystemType && (await isStale(mount.mountpoint))) {
    const { source: volume, mountpoint } = mount;
    await detachStale(mountpoint);
    output.result({ volume, mountpoint, daemon: 'was dead' }, () => [
      `Detached ${mountpoint}. Its daemon was dead already; everything synced is kept.`,
    ]);
    return;
  }
  if (target.given === 'path') {
    await refuseUnserved(path);
  }
  const advice = '`verfs status` shows where the default volume is mounted.';
  throw new NotMountedError(`No VerFS volume is mounted at ${path}`, { path, advice, cause: death });
}
