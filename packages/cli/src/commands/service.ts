import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { IoError, PermissionError, ServiceError, UsageError } from '@verfs/errors';
import type { Argv } from 'yargs';
import { type CommonArguments, loadConfig, placeOf } from '../context.ts';
import { createOutput } from '../output.ts';
import { startAdvice } from '../service/start-failure.ts';
import { unitName, unitText } from '../service/unit.ts';

type Scope = 'system' | 'user';

interface ServiceArguments extends CommonArguments {
  readonly mountpoint?: string | undefined;
  readonly user?: boolean | undefined;
  readonly system?: boolean | undefined;
  readonly 'mount-helper'?: boolean | undefined;
}

interface InstallArguments extends ServiceArguments {
  readonly volume?: string | undefined;
  readonly start: boolean;
  readonly print?: boolean | undefined;
}

const target = (yargs: Argv<CommonArguments>) =>
  yargs
    .positional('mountpoint', { type: 'string', describe: 'Where it is mounted; by default mount.point of the config' })
    .option('user', { type: 'boolean', describe: 'With the session of this user; the default for all but root' })
    .option('system', { type: 'boolean', describe: 'With the system; the default for root' })
    .option('mount-helper', {
      type: 'boolean',
      describe: 'The programs for fstab and `mount -t verfs` instead; as root',
    });

/** Options of `verfs service install`. */
export const installBuilder = (yargs: Argv<CommonArguments>) =>
  target(yargs)
    .option('volume', { type: 'string', requiresArg: true, describe: 'Directory of the volume' })
    .option('start', {
      type: 'boolean',
      default: true,
      describe: 'Start it now; --no-start leaves that to the next boot',
    })
    .option('print', { type: 'boolean', describe: 'Show the unit, and install nothing' })
    .example('$0 service install ~/verfs', 'mounts the default volume from now on, with the session')
    .example('$0 service install /mnt/a --volume /srv/a', 'as root: with the system')
    .example('$0 service install --mount-helper', 'as root: for lines of /etc/fstab with the type verfs');

/** Options of `verfs service remove`. */
export const removeBuilder = (yargs: Argv<CommonArguments>) =>
  target(yargs)
    .example('$0 service remove ~/verfs', 'unmounts it, and mounts it no more')
    .example('$0 service remove --mount-helper', 'as root: removes the programs for fstab');

function scopeOf(args: ServiceArguments): Scope {
  if (args.user === true && args.system === true) {
    throw new UsageError('--user and --system exclude each other');
  }
  const isSystem = args.system ?? (args.user === true ? false : process.getuid?.() === 0);
  return isSystem ? 'system' : 'user';
}

function unitDirectory(scope: Scope): string {
  const own = process.env['XDG_CONFIG_HOME'] || join(homedir(), '.config');
  return scope === 'system' ? '/etc/systemd/system' : join(own, 'systemd', 'user');
}

const wantedBy = (scope: Scope) => (scope === 'system' ? 'multi-user.target.wants' : 'default.target.wants');

/** Whether the manager of units runs: sd_booted(3). */
const isRunning = () => existsSync('/run/systemd/system');

/** Asks the manager. */
function systemctl(scope: Scope, ...words: string[]): void {
  const args = [...(scope === 'user' ? ['--user'] : []), ...words];
  const said = spawnSync('systemctl', args, { encoding: 'utf8', timeout: 20 * 60_000 });
  if (said.status !== 0) {
    const reason = (said.stderr || said.error?.message || '').trim().split('\n')[0] ?? '';
    throw new ServiceError(`systemctl ${args.join(' ')} failed: ${reason}`);
  }
}

/** Begins the unit anew. Of a failure systemctl tells only that there was one: what it was is in the unit's state. */
function restart(scope: Scope, unit: string): void {
  try {
    systemctl(scope, 'restart', unit);
  } catch (cause) {
    const args = [...(scope === 'user' ? ['--user'] : []), 'show', '--property=ExecMainStatus', '--value', unit];
    const shown = spawnSync('systemctl', args, { encoding: 'utf8', timeout: 60_000 });
    const advice = startAdvice(unit, scope, Number.parseInt(shown.stdout, 10));
    throw new ServiceError(`${unit} is installed, and does not start`, { cause, advice });
  }
}

/** Runs `act` on files at `path`. */
function onFiles<T>(path: string, act: () => T): T {
  try {
    return act();
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    const what = `${path} cannot be written: ${message}`;
    throw code === 'EACCES' || code === 'EPERM'
      ? new PermissionError(what, { path, cause, advice: 'Ask as root, or with --user.' })
      : new IoError(what, { path, cause });
  }
}

async function mountpointOf(args: ServiceArguments): Promise<string> {
  return args.mountpoint === undefined ? (await loadConfig(args))['mount.point'] : placeOf(args.mountpoint);
}

/** Installs a unit that mounts a volume, or the programs for fstab. */
export async function serviceInstall(args: InstallArguments): Promise<void> {
  const output = createOutput(args.json ? 'json' : 'text');
  if (args['mount-helper'] === true) {
    const { installPrograms } = await import('../service/mount-programs.ts');
    const installed = onFiles('/sbin', installPrograms);
    output.result({ installed }, () => [
      `Wrote ${installed.join(', ')}.`,
      'A line of /etc/fstab: /srv/volume /mnt/volume verfs defaults,nofail 0 0',
    ]);
    return;
  }
  const scope = scopeOf(args);
  const config = await loadConfig(args);
  const mountpoint = await mountpointOf(args);
  const text = unitText({
    scope,
    mountpoint,
    volume: args.volume === undefined ? config['volume.path'] : placeOf(args.volume),
    config: args.config === undefined ? undefined : resolve(args.config),
    program: [process.execPath, fileURLToPath(new URL('../../bin/verfs.js', import.meta.url))],
  });
  const unit = unitName(mountpoint);
  if (args.print === true) {
    output.result({ unit, text }, () => [text.trimEnd()]);
    return;
  }
  const path = join(unitDirectory(scope), unit);
  const link = join(dirname(path), wantedBy(scope), unit);
  onFiles(path, () => {
    mkdirSync(dirname(link), { recursive: true });
    writeFileSync(path, text, { mode: 0o644 });
    rmSync(link, { force: true });
    symlinkSync(join('..', unit), link);
  });
  const isStarted = args.start && isRunning();
  if (isRunning()) {
    systemctl(scope, 'daemon-reload');
  }
  if (isStarted) {
    restart(scope, unit);
  }
  output.result({ unit, path, scope, started: isStarted }, () => [
    `Wrote ${path}.`,
    isStarted
      ? `It is mounted at ${mountpoint}.`
      : `It is mounted at ${mountpoint} from the next ${scope === 'system' ? 'boot' : 'session'} on.`,
  ]);
}

/** Removes what `install` wrote. */
export async function serviceRemove(args: ServiceArguments): Promise<void> {
  const output = createOutput(args.json ? 'json' : 'text');
  if (args['mount-helper'] === true) {
    const { removePrograms } = await import('../service/mount-programs.ts');
    const removed = onFiles('/sbin', removePrograms);
    output.result({ removed }, () => [`Removed ${removed.join(', ')}.`]);
    return;
  }
  const scope = scopeOf(args);
  const unit = unitName(await mountpointOf(args));
  const path = join(unitDirectory(scope), unit);
  if (!existsSync(path)) {
    const advice = `\`ls ${unitDirectory(scope)}/verfs-*\` shows which there are.`;
    throw new ServiceError(`There is no unit ${path}`, { path, advice });
  }
  if (isRunning()) {
    systemctl(scope, 'stop', unit);
  }
  onFiles(path, () => {
    rmSync(join(dirname(path), wantedBy(scope), unit), { force: true });
    rmSync(path);
  });
  if (isRunning()) {
    systemctl(scope, 'daemon-reload');
  }
  output.result({ unit, path, scope }, () => [`Removed ${path}.`]);
}
