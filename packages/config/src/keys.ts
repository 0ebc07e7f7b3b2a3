import { choice, duration, flag, integer, type KeyDefinition, live, path, size, text, texts } from './key.ts';
import { parseMetricsAddress } from './metrics-address.ts';
import type { ValuesOf } from './validate.ts';

/** Every configuration key: the only table of its kind. Sizes are in bytes, durations in milliseconds. */
export const configKeys = {
  'volume.path': path({
    default: '~/.local/share/verfs/default',
    help: 'The default volume: what commands use that name neither a volume nor a path inside a mount.',
  }),
  'volume.read_only': flag({ default: false, help: 'Open volumes without writing to them, and mount them read-only.' }),

  'create.meta_engine': choice({
    values: ['surrealkv', 'fjall'],
    default: 'surrealkv',
    help: 'The metadata engine of new volumes.',
  }),
  'create.chunker': choice({
    values: ['mincdc', 'fastcdc', 'ultracdc'],
    default: 'mincdc',
    help: 'The algorithm that cuts the files of new volumes into chunks.',
  }),
  'create.chunk_mean': size({
    default: '32KiB',
    min: '4KiB',
    max: '1MiB',
    help: 'Mean size of the chunks of new volumes: smaller finds more duplicates and costs more metadata.',
  }),

  'group.blocks': integer({
    default: 3000,
    min: 1,
    max: 1_000_000,
    help: 'Changed blocks of 4 KiB after which the open transaction group is written to disk.',
  }),
  'group.interval': duration({
    default: '500ms',
    min: '1ms',
    max: '1h',
    help: 'Time after which the open transaction group is written to disk, however little it holds.',
  }),

  'memory.dirty_limit': size({
    default: '32MiB',
    min: '1MiB',
    max: '64GiB',
    help: 'File data that may wait in memory to be written; at the limit writers wait.',
  }),
  'memory.chunk_cache': live(
    size({
      default: '40MiB',
      min: '1MiB',
      max: '1TiB',
      help: 'Cache of decompressed chunks.',
    }),
  ),
  'memory.pack_index_cache': size({ default: '8MiB', min: '1MiB', max: '1TiB', help: 'Cache of pack indexes.' }),
  'memory.meta_block_cache': size({
    default: '16MiB',
    min: '1MiB',
    max: '1TiB',
    help: 'Block cache of the metadata engine.',
  }),
  'memory.memtable': size({
    default: '20MiB',
    min: '1MiB',
    max: '1GiB',
    help: 'Size of one memtable of the metadata engine, which has up to two.',
  }),
  'memory.inode_cache_entries': integer({
    default: 40_960,
    min: 100,
    max: 100_000_000,
    help: 'Inodes that are kept in memory.',
  }),

  'log.inline': size({
    default: '1MiB',
    min: '4KiB',
    max: '64MiB',
    help: 'Most data that one fsync puts into the intent log; with more the transaction group is written instead.',
  }),
  'compression.level': integer({ default: 2, min: 1, max: 19, help: 'zstd level of new chunks.' }),
  'compression.threads': integer({
    default: 0,
    min: 0,
    max: 256,
    help: 'Threads that compress and decompress; 0 is one for each core.',
  }),
  'pack.target': size({ default: '64MiB', min: '1MiB', max: '4GiB', help: 'Size at which a pack is sealed.' }),

  'gc.background': flag({
    default: true,
    help: 'Collect garbage without being asked: when a volume is idle, much of it is dead, or the disk is nearly full.',
  }),
  'gc.dead_percent': integer({
    default: 20,
    min: 1,
    max: 100,
    help: 'Percentage of a pack that has to be dead before what is left of it is moved to give its room back.',
  }),
  'gc.busy_rate': size({
    default: '32MiB',
    min: '64KiB',
    max: '1TiB',
    help: 'Data that garbage collection moves in a second while the volume is in use.',
  }),

  'scrub.busy_rate': size({
    default: '32MiB',
    min: '64KiB',
    max: '1TiB',
    help: 'Data that a scrub reads in a second while the volume is in use.',
  }),

  'mount.point': path({
    default: '~/verfs',
    help: 'Where `verfs mount` mounts when it is not told.',
  }),
  'mount.allow_other': flag({
    default: false,
    help: 'Let other users enter mounts. Without root rights this needs user_allow_other in /etc/fuse.conf.',
  }),
  'mount.io_threads': integer({
    default: 4,
    min: 1,
    max: 64,
    help: 'Threads for requests that have to wait for the disk.',
  }),
  'mount.poll': duration({
    default: '100us',
    min: '0us',
    max: '1ms',
    help: 'How long the dispatcher polls for the next request before it sleeps. More is quicker and uses more CPU.',
  }),
  'mount.deadline': duration({
    default: '3min',
    min: '0ms',
    max: '24h',
    help: 'How long a request may wait for the disk before it fails with EIO, while the work for it goes on. 0ms waits for ever.',
  }),
  'mount.options': texts({ help: 'Further mount options, as after `-o`.' }),

  'metrics.listen': text({
    default: '',
    type: 'address on this machine: `127.0.0.1:PORT`, `[::1]:PORT`, `localhost:PORT` or `unix:PATH`; empty for none',
    help: 'Where the daemon of a mount serves metrics for Prometheus. A port is open to every user of the machine.',
    check: (value) =>
      value === '' || parseMetricsAddress(value) !== undefined
        ? undefined
        : 'is an address on this machine, such as "127.0.0.1:9464" or "unix:/run/verfs/metrics.sock", or empty',
  }),

  'daemon.shutdown_target': duration({
    default: '10s',
    min: '1s',
    max: '1h',
    help: 'Time that an unmount should take at most; when it takes longer the log says so, and it goes on.',
  }),
  'daemon.log_directory': path({
    default: '~/.local/state/verfs',
    help: 'Directory of the log files, one for each volume.',
  }),
  'daemon.log_level': live(
    choice({
      values: ['error', 'warn', 'info', 'debug', 'trace'],
      default: 'info',
      help: 'What is logged.',
    }),
  ),
  'daemon.log_max_size': size({
    default: '10MiB',
    min: '1MiB',
    max: '1GiB',
    help: 'Size at which a log file is replaced by a new one.',
  }),
  'daemon.log_max_files': integer({ default: 5, min: 2, max: 100, help: 'Log files that are kept for each volume.' }),
} as const satisfies Record<string, KeyDefinition<unknown>>;

/** Name of a configuration key. */
export type ConfigKey = keyof typeof configKeys;

/** Every key, in the order of the table. */
export const configKeyNames = Object.keys(configKeys) as ConfigKey[];

/** The configuration: a value for every key. Sizes in bytes, durations in milliseconds, paths absolute. */
export type Config = ValuesOf<typeof configKeys>;

/** A key that a mounted volume takes anew. */
export type LiveKey = {
  [K in ConfigKey]: (typeof configKeys)[K] extends { readonly isLive: true } ? K : never;
}[ConfigKey];

/** Every such key. */
export const liveKeyNames = configKeyNames.filter((name) => 'isLive' in configKeys[name]) as LiveKey[];
