import type { Config, ConfigKey } from '@verfs/config';
import type { Argv } from 'yargs';
import { type CommonArguments, type TargetArguments, targetOf } from '../context.ts';
import { formatTable } from '../format.ts';
import { createOutput } from '../output.ts';

type Arguments = CommonArguments & Pick<TargetArguments, 'volume'>;

const target = (yargs: Argv<CommonArguments>) =>
  yargs.option('volume', {
    type: 'string',
    requiresArg: true,
    describe: 'Directory of the volume, or a path in its mount',
  });

/** Options of `verfs config show`. */
export const showBuilder = (yargs: Argv<CommonArguments>) =>
  yargs
    .positional('key', { type: 'string', describe: 'Only this key, or those that begin with it' })
    .example('$0 config show', 'every setting, as the next mount has it')
    .example('$0 config show memory', 'those of memory');

/** Options of `verfs config set`. */
export const setBuilder = (yargs: Argv<CommonArguments>) =>
  target(yargs)
    .positional('key', { type: 'string', demandOption: true, describe: 'A key that docs/CONFIG.md marks as live' })
    .positional('value', { type: 'string', demandOption: true, describe: 'Its value, as in the configuration file' })
    .example('$0 config set daemon.log_level debug', 'has the daemon of the default volume log more, until it ends')
    .example('$0 config set memory.chunk_cache 256MiB --volume /srv/a', 'gives a mounted volume a larger cache');

/** Options of `verfs config reload`. */
export const reloadBuilder = (yargs: Argv<CommonArguments>) =>
  target(yargs).example('$0 config reload', 'has the daemon read its configuration again, as SIGHUP does');

/** The value of a key as one would write it. */
function valueText(key: ConfigKey, config: Config, units: typeof import('@verfs/config')): string {
  const value = config[key];
  const { type } = units.configKeys[key];
  if (typeof value === 'number' && type.startsWith('size')) {
    return units.formatQuantity(value, units.sizeUnits);
  }
  if (typeof value === 'number' && type.startsWith('duration')) {
    return units.formatQuantity(Math.round(value * 1000), units.durationUnits);
  }
  return Array.isArray(value) ? value.join(',') : String(value);
}

/** Shows the configuration. */
export async function configShow(args: CommonArguments & { readonly key?: string | undefined }): Promise<void> {
  const config = await import('@verfs/config');
  const loaded = config.loadConfig(args.config);
  const wanted = args.key ?? '';
  const keys = config.configKeyNames.filter((key) => key === wanted || key.startsWith(wanted));
  if (keys.length === 0) {
    // Throws, and says which key may be meant.
    config.checkKey(wanted);
  }
  const rows = keys.map((key) => {
    const text = valueText(key, loaded.config, config);
    const standard = valueText(key, config.defaultConfig(), config) === text ? '' : 'changed';
    return [key, text, standard];
  });
  createOutput(args.json ? 'json' : 'text').result(
    { file: loaded.file ?? null, config: Object.fromEntries(keys.map((key) => [key, loaded.config[key]])) },
    () => [
      loaded.file === undefined ? 'There is no configuration file; these are the defaults.' : `From ${loaded.file}:`,
      ...formatTable(['Key', 'Value', ''], rows),
    ],
  );
}

/** Changes a setting of a mounted volume. */
export async function configSet(args: Arguments & { readonly key: string; readonly value: string }): Promise<void> {
  const { checkLive } = await import('@verfs/config');
  checkLive(args.key, args.value);
  const { VolumeClient } = await import('@verfs/sdk/control');
  await using client = await VolumeClient.connect((await targetOf(args)).path);
  const values = await client.setConfig(args.key, args.value);
  createOutput(args.json ? 'json' : 'text').result({ settings: values }, () => [
    `${args.key} is ${args.value} now, until ${client.served.mountpoint} is unmounted. The configuration file keeps it longer.`,
  ]);
}

/** Has a daemon read its configuration again. */
export async function configReload(args: Arguments): Promise<void> {
  const { VolumeClient } = await import('@verfs/sdk/control');
  await using client = await VolumeClient.connect((await targetOf({ ...args, config: undefined })).path);
  const changed = await client.reloadConfig();
  createOutput(args.json ? 'json' : 'text').result({ changed }, () => [
    changed.length === 0
      ? 'Nothing that can be changed while it is mounted has changed.'
      : `Changed: ${changed.join(', ')}.`,
  ]);
}
