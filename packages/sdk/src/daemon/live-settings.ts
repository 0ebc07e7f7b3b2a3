// Loaded with the daemon, not when it is needed: its package may be replaced meanwhile, or go.
import { type Config, checkLive, type LiveKey, liveKeyNames, loadConfig } from '@verfs/config';
import type { Log, LogStream } from '@verfs/log';
import type { NativeVolume } from '@verfs/native';
import { setLogSink } from '@verfs/native';
import type { DaemonRequest } from './request.ts';

/** The values of the settings that a daemon takes anew while it serves. */
export type LiveValues = Pick<Config, LiveKey>;

/** The settings of a mount that can be changed without an unmount. Each call checks before it changes anything. */
export class LiveSettings {
  readonly #request: DaemonRequest;
  readonly #volume: Pick<NativeVolume, 'setChunkCacheBytes'>;
  readonly #stream: LogStream;
  readonly #log: Log;
  #values: LiveValues;

  constructor(request: DaemonRequest, volume: Pick<NativeVolume, 'setChunkCacheBytes'>, stream: LogStream, log: Log) {
    this.#request = request;
    this.#volume = volume;
    this.#stream = stream;
    this.#log = log;
    this.#values = {
      'daemon.log_level': request.log.level,
      'memory.chunk_cache': request.open.chunkCacheBytes ?? 0,
    };
  }

  /**
   * Changes one until the volume is unmounted. `value` is as in the configuration.
   *
   * @throws ConfigKeyError for a key that there is not, ConfigTypeError and ConfigUnitError for a wrong value, UsageError
   * for a key that takes effect with the next mount only.
   */
  async set(key: string, value: string | number): Promise<LiveValues> {
    await this.#apply(checkLive(key, value));
    return this.#values;
  }

  /**
   * Reads the configuration again, and takes what of it can be changed.
   *
   * @returns The keys that were changed.
   * @throws Every error of `loadConfig`; nothing is changed then.
   */
  async reload(): Promise<readonly LiveKey[]> {
    const { config } = loadConfig(this.#request.configFile ?? undefined);
    const changed = liveKeyNames.filter((key) => config[key] !== this.#values[key]);
    await this.#apply(Object.fromEntries(changed.map((key) => [key, config[key]])) as Partial<LiveValues>);
    this.#log.info(`read the configuration again; changed: ${changed.join(', ') || 'nothing'}`);
    return changed;
  }

  async #apply(values: Partial<LiveValues>): Promise<void> {
    const { 'daemon.log_level': level, 'memory.chunk_cache': chunkCacheBytes } = values;
    if (chunkCacheBytes !== undefined) {
      await this.#volume.setChunkCacheBytes(chunkCacheBytes);
    }
    if (level !== undefined) {
      this.#stream.setLevel(level);
      setLogSink(level, (record) => this.#stream.write(record));
    }
    this.#values = { ...this.#values, ...values };
  }
}
