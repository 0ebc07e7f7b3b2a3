import type { ConfigKey } from '@verfs/config';
import { shellQuoted, UsageError } from '@verfs/errors';
import type { VolumeInfo } from '@verfs/sdk';
import type { Argv } from 'yargs';
import { type CommonArguments, loadConfig, placeOf, type TargetArguments, targetOf } from '../context.ts';
import { formatBytes, formatRows, formatTime } from '../format.ts';
import { createOutput } from '../output.ts';

interface CreateArguments extends CommonArguments {
  readonly directory?: string | undefined;
  readonly volume?: string | undefined;
  readonly chunker?: string | undefined;
  readonly chunkMean?: string | undefined;
  readonly metaEngine?: string | undefined;
}

/** Options of `verfs volume create`. */
export const createBuilder = async (yargs: Argv<CommonArguments>) => {
  const { configKeys } = await import('@verfs/config');
  const setting = (key: ConfigKey, what: string) => {
    const describe = `${what}: ${configKeys[key].type.replaceAll('`', '')}`;
    return { type: 'string', requiresArg: true, describe } as const;
  };
  return yargs
    .positional('directory', { type: 'string', describe: 'Where to make it; by default volume.path of the config' })
    .option('volume', { type: 'string', requiresArg: true, describe: 'The same as DIRECTORY' })
    .option('chunker', setting('create.chunker', 'What cuts files'))
    .option('chunk-mean', setting('create.chunk_mean', 'Mean of a chunk'))
    .option('meta-engine', setting('create.meta_engine', 'Metadata engine'))
    .example('$0 volume create /srv/a', 'makes a volume')
    .example('$0 volume create /srv/b --chunker ultracdc', 'makes one that is cut by UltraCDC');
};

/** Options of `verfs volume info`. */
export const infoBuilder = (yargs: Argv<CommonArguments>) =>
  yargs
    .positional('path', { type: 'string', describe: 'A path in a mount, or the directory of a volume' })
    .option('volume', { type: 'string', requiresArg: true, describe: 'Directory of the volume' })
    .example('$0 volume info --volume /srv/a', 'what the superblock of a volume says');

function infoText(info: VolumeInfo): string[] {
  const chunks = [info.chunkMinBytes, info.chunkMeanBytes, info.chunkMaxBytes].map(formatBytes);
  return formatRows([
    ['Volume', info.path],
    ['UUID', info.uuid],
    ['Format', String(info.formatVersion)],
    ['Metadata engine', info.engine],
    ['Chunker', `${info.chunker}, ${chunks[1]} on average, ${chunks[0]} to ${chunks[2]}`],
    ['Made', formatTime(info.created)],
    ['Open in', info.holderPid == null ? 'no process' : `process ${info.holderPid}`],
  ]);
}

/** Makes a volume. */
export async function volumeCreate(args: CreateArguments): Promise<void> {
  const output = createOutput(args.json ? 'json' : 'text');
  if (args.directory !== undefined && args.volume !== undefined) {
    throw new UsageError('DIRECTORY and --volume were given, and one of them is enough');
  }
  const overrides = {
    'create.chunker': args.chunker,
    'create.chunk_mean': args.chunkMean,
    'create.meta_engine': args.metaEngine,
  };
  const given = Object.fromEntries(Object.entries(overrides).filter(([, value]) => value !== undefined));
  const config = await loadConfig(args, given);
  const { Volume } = await import('@verfs/sdk');
  const { createOptionsOf } = await import('@verfs/sdk/options');
  const path = placeOf(args.directory ?? args.volume ?? config['volume.path']);
  const info = await Volume.create(path, createOptionsOf(config));
  output.result({ ...info, holderPid: info.holderPid ?? null }, () => [
    `Made the volume ${info.path}.`,
    `Mount it with: verfs mount MOUNTPOINT --volume ${shellQuoted(info.path)}`,
  ]);
}

/** Shows what the superblock of a volume says. */
export async function volumeInfo(args: TargetArguments): Promise<void> {
  const output = createOutput(args.json ? 'json' : 'text');
  const target = await targetOf(args);
  const { findServed } = await import('@verfs/sdk/control');
  const { Volume } = await import('@verfs/sdk');
  const info = await Volume.inspect((await findServed(target.path))?.volume ?? target.path);
  output.result({ ...info, holderPid: info.holderPid ?? null }, () => infoText(info));
}
