import { resolve } from 'node:path';
import type { Config } from '@verfs/config';
import { shellQuoted } from '@verfs/errors';
import type { Ready } from '@verfs/sdk/daemon';
import type { Argv } from 'yargs';
import { type CommonArguments, loadConfig, placeOf } from '../context.ts';
import { createOutput, type Output } from '../output.ts';
import { withProgress } from '../progress.ts';

interface MountArguments extends CommonArguments {
  readonly mountpoint?: string | undefined;
  readonly volume?: string | undefined;
  readonly foreground: boolean;
  readonly allowOther?: boolean | undefined;
  readonly metrics?: string | undefined;
  readonly readOnlyRecovery?: boolean | undefined;
  readonly o?: string | readonly string[] | undefined;
}

/** Options of `verfs mount`. */
export const mountBuilder = (yargs: Argv<CommonArguments>) =>
  yargs
    .positional('mountpoint', { type: 'string', describe: 'Empty directory; by default mount.point of the config' })
    .option('volume', { type: 'string', requiresArg: true, describe: 'Directory of the volume' })
    .option('foreground', { alias: 'f', type: 'boolean', default: false, describe: 'Serve it in this process' })
    .option('o', {
      type: 'string',
      requiresArg: true,
      describe: 'Mount options, as of mount(8): ro, noatime, private, …',
    })
    .option('metrics', {
      type: 'string',
      requiresArg: true,
      describe: 'Serve metrics for Prometheus: 127.0.0.1:PORT, or unix:PATH',
    })
    .option('allow-other', { type: 'boolean', describe: 'Let other users enter the mount' })
    .option('read-only-recovery', {
      type: 'boolean',
      describe: 'Show what is left of a damaged volume, and change nothing',
    })
    .example('$0 mount ~/verfs', 'mounts the default volume, and makes it when it is missing')
    .example('$0 mount /mnt/a --volume /srv/a -o ro', 'mounts a volume without changing it')
    .example('$0 mount ~/verfs --foreground', 'serves it until Ctrl+C');

function mountOptions(args: MountArguments): string[] {
  const given = args.o === undefined ? [] : [args.o].flat();
  return given.flatMap((value) => value.split(',')).filter((option) => option !== '');
}

async function configure(args: MountArguments): Promise<Config> {
  const config = await loadConfig(args, {
    ...(args.allowOther === undefined ? {} : { 'mount.allow_other': args.allowOther }),
    ...(args.metrics === undefined ? {} : { 'metrics.listen': args.metrics }),
  });
  const options = [...config['mount.options'], ...mountOptions(args)];
  const access = options.findLast((option) => option === 'ro' || option === 'rw');
  const readOnly = access === undefined ? config['volume.read_only'] : access === 'ro';
  return { ...config, 'mount.options': options, 'volume.read_only': readOnly };
}

function announce(ready: Ready, foreground: boolean, output: Output): void {
  const { status } = ready;
  output.result({ ...status, volumeCreated: ready.volume === 'created' }, () => [
    ...(ready.volume === 'created' ? [`Made the volume ${status.volume}.`] : []),
    `Mounted ${status.volume} at ${status.mountpoint} (${status.access}, process ${status.pid}).`,
    foreground && process.stdin.isTTY
      ? 'Ctrl+C unmounts it.'
      : `Unmount it with: verfs unmount ${shellQuoted(status.mountpoint)}`,
  ]);
}

/** Mounts a volume: in a daemon, or with `--foreground` in this process, until it is unmounted. */
export async function mount(args: MountArguments): Promise<void> {
  const output = createOutput(args.json ? 'json' : 'text');
  const config = await configure(args);
  const { daemonRequest, hostVolume, startDaemon, stopOnSignals, surviveDefects } = await import('@verfs/sdk/daemon');
  const wanted = daemonRequest(config, {
    volume: args.volume === undefined ? config['volume.path'] : placeOf(args.volume),
    mountpoint: args.mountpoint === undefined ? config['mount.point'] : placeOf(args.mountpoint),
    whenMissing: args.volume === undefined && args.readOnlyRecovery !== true ? 'create' : 'fail',
    configFile: args.config === undefined ? null : resolve(args.config),
  });
  const recovery = { readOnly: true, readOnlyRecovery: true };
  const request = args.readOnlyRecovery === true ? { ...wanted, open: { ...wanted.open, ...recovery } } : wanted;
  if (!args.foreground) {
    announce(await withProgress('opening the volume', args, () => startDaemon(request)), false, output);
    return;
  }
  // Whose terminal goes away wants the mount to go, too; a service manager has settings read again by that signal.
  const hangUp = process.stdin.isTTY || process.stdout.isTTY ? 'stop' : 'reload';
  const { stop, release } = stopOnSignals(hangUp);
  try {
    await hostVolume(request, {
      stderr: args.json ? 'silent' : 'text',
      stop: stop.signal,
      notify: 'service manager',
      hangUp,
      onLog: surviveDefects,
      onReady: (ready) => announce(ready, true, output),
    });
  } finally {
    release();
  }
}
