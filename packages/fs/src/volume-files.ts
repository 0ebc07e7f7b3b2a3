import type { FileAttributes } from '@verfs/native';
import type { FileCalls, Path } from './calls.ts';
import { type Attempt, failureOf } from './errors.ts';
import { throughGate } from './gate.ts';
import { bigintStatsOf, statsOf } from './stats.ts';

/** Devices of the volumes in this process: what has the same number here is the same file nowhere else. */
let nextDevice = 0xfe00;

/** The files of a volume, for the operations of this package: its calls, through the gate, with errors like Node's. */
export class VolumeFiles {
  readonly calls: FileCalls;
  /** The number of the volume as `st_dev`. */
  readonly device: number;

  constructor(calls: FileCalls) {
    this.calls = calls;
    this.device = nextDevice;
    nextDevice += 1;
  }

  /** Makes a call; what it fails with says what was tried. */
  async run<T>(syscall: string, call: (calls: FileCalls) => Promise<T>, path?: Path, dest?: Path): Promise<T> {
    return await this.attempt({ syscall, path, dest }, call);
  }

  /** As `run`. */
  async attempt<T>(attempt: Attempt, call: (calls: FileCalls) => Promise<T>): Promise<T> {
    try {
      return await throughGate(attempt.syscall, () => call(this.calls));
    } catch (thrown) {
      throw failureOf(thrown, attempt);
    }
  }

  /** Attributes as Node shows them. */
  stats(attributes: FileAttributes, options: { readonly bigint?: boolean | undefined } | undefined) {
    return options?.bigint === true ? bigintStatsOf(attributes, this.device) : statsOf(attributes, this.device);
  }
}
