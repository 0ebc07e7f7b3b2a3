import type { Config } from '@verfs/config';
import type { LogLevel } from '@verfs/log';
import type { CreateOptions, MountOptions, OpenOptions } from '@verfs/native';
import { createOptionsOf, mountOptionsOf, openOptionsOf } from '../options.ts';

/** Everything that a daemon has to know; it crosses a process boundary as JSON. */
export interface DaemonRequest {
  /** The configuration file that was named, absolute; without one the first of the usual ones that is there. */
  readonly configFile: string | null;
  /** Directory of the volume, absolute. */
  readonly volume: string;
  readonly mountpoint: string;
  /** What to do when there is nothing at `volume`. */
  readonly whenMissing: 'fail' | 'create';
  readonly create: CreateOptions;
  readonly open: OpenOptions;
  readonly mount: MountOptions;
  readonly log: {
    readonly directory: string;
    readonly level: LogLevel;
    readonly maxBytes: number;
    readonly maxFiles: number;
  };
  /** Where metrics are served; empty for nowhere. */
  readonly metrics: string;
  /** An unmount that takes longer is logged, and goes on. */
  readonly shutdownTargetMs: number;
}

/** The request that `config` makes for one mount. */
export function daemonRequest(
  config: Config,
  at: Pick<DaemonRequest, 'volume' | 'mountpoint' | 'whenMissing' | 'configFile'>,
): DaemonRequest {
  return {
    ...at,
    create: createOptionsOf(config),
    open: openOptionsOf(config),
    mount: mountOptionsOf(config),
    log: {
      directory: config['daemon.log_directory'],
      level: config['daemon.log_level'],
      maxBytes: config['daemon.log_max_size'],
      maxFiles: config['daemon.log_max_files'],
    },
    metrics: config['metrics.listen'],
    shutdownTargetMs: config['daemon.shutdown_target'],
  };
}
