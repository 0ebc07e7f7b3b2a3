import { inspect } from 'node:util';
import { type Config, type ConfigKey, configKeys } from '@verfs/config';
import { UsageError } from '@verfs/errors';
import type { CreateOptions, MountOptions, OpenOptions } from '@verfs/native';

/** The setting behind an option that is a number, and how much of the option is one of the setting. */
type Numbers<T> = Readonly<Partial<Record<keyof T, readonly [key: ConfigKey, scale: number]>>>;

const createNumbers: Numbers<CreateOptions> = { chunkMeanBytes: ['create.chunk_mean', 1] };

const openNumbers: Numbers<OpenOptions> = {
  groupBlocks: ['group.blocks', 1],
  groupIntervalMs: ['group.interval', 1],
  dirtyLimitBytes: ['memory.dirty_limit', 1],
  logInlineBytes: ['log.inline', 1],
  chunkCacheBytes: ['memory.chunk_cache', 1],
  packIndexCacheBytes: ['memory.pack_index_cache', 1],
  metaBlockCacheBytes: ['memory.meta_block_cache', 1],
  memtableBytes: ['memory.memtable', 1],
  inodeCacheEntries: ['memory.inode_cache_entries', 1],
  compressionLevel: ['compression.level', 1],
  compressThreads: ['compression.threads', 1],
  packTargetBytes: ['pack.target', 1],
  gcDeadPercent: ['gc.dead_percent', 1],
  gcBusyRateBytes: ['gc.busy_rate', 1],
  scrubBusyRateBytes: ['scrub.busy_rate', 1],
};

const mountNumbers: Numbers<MountOptions> = {
  ioThreads: ['mount.io_threads', 1],
  pollUs: ['mount.poll', 1000],
  deadlineMs: ['mount.deadline', 1],
};

function check<T extends object>(options: T, numbers: Numbers<T>): T {
  for (const [name, [key, scale]] of Object.entries(numbers) as [keyof T & string, [ConfigKey, number]][]) {
    const value: unknown = options[name];
    const { bounds } = configKeys[key];
    if (value === undefined || value === null || bounds === undefined) {
      continue;
    }
    const [min, max] = [bounds.min * scale, bounds.max * scale];
    if (!Number.isInteger(value) || Number(value) < min || Number(value) > max) {
      const advice = 'See the types of the package.';
      const now = inspect(value, { depth: -1 });
      throw new UsageError(`${name} is a whole number from ${min} to ${max}, and is ${now} now`, { advice });
    }
  }
  return options;
}

/**
 * Checks what a caller gave: the bounds are those of the settings.
 *
 * @throws UsageError
 */
export const checkCreateOptions = (options: CreateOptions): CreateOptions => check(options, createNumbers);

/** As `checkCreateOptions`. */
export const checkOpenOptions = (options: OpenOptions): OpenOptions => check(options, openNumbers);

/** As `checkCreateOptions`. */
export const checkMountOptions = (options: MountOptions): MountOptions => check(options, mountNumbers);

/** How `config` wants volumes made. */
export function createOptionsOf(config: Config): Required<CreateOptions> {
  return {
    engine: config['create.meta_engine'],
    chunker: config['create.chunker'],
    ...numbersOf(config, createNumbers),
  } as Required<CreateOptions>;
}

/** The limits that `config` sets. */
export function openOptionsOf(config: Config): Required<OpenOptions> {
  return {
    ...numbersOf(config, openNumbers),
    gcBackground: config['gc.background'],
    readOnly: config['volume.read_only'],
    readOnlyRecovery: false,
  } as Required<OpenOptions>;
}

/** How `config` wants volumes mounted. */
export function mountOptionsOf(config: Config): Required<MountOptions> {
  return {
    allowOther: config['mount.allow_other'],
    ...numbersOf(config, mountNumbers),
    extra: [...config['mount.options']],
  } as Required<MountOptions>;
}

function numbersOf<T>(config: Config, numbers: Numbers<T>): Record<string, number> {
  const entries = Object.entries(numbers) as [string, [ConfigKey, number]][];
  return Object.fromEntries(entries.map(([name, [key, scale]]) => [name, Math.round(Number(config[key]) * scale)]));
}
