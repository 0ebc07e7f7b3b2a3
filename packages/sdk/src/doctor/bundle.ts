/**
 * What somebody who helps needs to know of a machine and a volume, without anything that is nobody's business: names,
 * contents, attributes, notes, places, users and hosts. What goes in is chosen here, one by one; free text loses every
 * word that is not our own.
 */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { release } from 'node:os';
import { type Config, type ConfigKey, configKeys, loadConfig } from '@verfs/config';
import { toVerfsError } from '@verfs/errors';
import { NativeVolume, type Stats, type VolumeInfo } from '@verfs/native';
import { findServed, VolumeClient } from '../control/client.ts';
import type { DaemonStatus } from '../control/protocol.ts';
import { exposition } from '../metrics/index.ts';
import { version } from '../version.ts';
import type { Diagnosis } from './check.ts';
import { withoutNames } from './words.ts';

const levels = ['error', 'warn', 'info', 'debug', 'trace'];
/** Lines of the log that are taken, from its end. */
const logLinesMax = 500;

/** A support bundle: JSON. */
export type Bundle = Readonly<Record<string, unknown>>;

/** What is asked for. */
export interface BundleRequest {
  /** What the checks said. */
  readonly found: readonly Diagnosis[];
  /** Directory of a volume, or a path in its mount, if there is one to be told of. */
  readonly volume?: string | undefined;
  /** The configuration file, if another than usual. */
  readonly config?: string | undefined;
}

/** Tells one volume from another, and nothing else. */
const pseudonym = (uuid: string) => createHash('sha256').update(`verfs bundle ${uuid}`).digest('hex').slice(0, 12);

/** Settings: numbers, switches, and what is one of a few words. Of other text whether it is set. */
function settings(config: Config): Readonly<Record<string, unknown>> {
  const shown = (key: ConfigKey, value: unknown): unknown => {
    const { type, defaultText } = configKeys[key];
    if (typeof value === 'number' || typeof value === 'boolean') {
      return value;
    }
    const isKnown = typeof value === 'string' && (type.includes(`\`"${value}"\``) || defaultText === `"${value}"`);
    return isKnown ? value : Array.isArray(value) ? `${value.length} set` : 'set';
  };
  return Object.fromEntries((Object.keys(config) as ConfigKey[]).map((key) => [key, shown(key, config[key])]));
}

function configuration(file: string | undefined): unknown {
  try {
    return settings(loadConfig(file).config);
  } catch (thrown) {
    return { error: toVerfsError(thrown).code };
  }
}

/** The last lines of the log, each without names. */
async function logTail(file: string): Promise<readonly unknown[]> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (thrown) {
    return [{ error: (thrown as NodeJS.ErrnoException).code ?? 'unreadable' }];
  }
  const lines = text.split('\n').filter((line) => line !== '');
  return lines.slice(-logLinesMax).map((line) => {
    try {
      const { time, level, target, message } = JSON.parse(line) as Readonly<Record<string, unknown>>;
      const isTime = typeof time === 'string' && !Number.isNaN(Date.parse(time));
      const isTarget = typeof target === 'string' && /^(daemon|verfs_[a-z_:]+)$/.test(target);
      return {
        time: isTime ? time : null,
        level: levels.includes(String(level)) ? level : null,
        target: isTarget ? target : null,
        message: withoutNames(String(message)),
      };
    } catch {
      return { error: 'not JSON' };
    }
  });
}

const aboutInfo = (info: VolumeInfo) => ({
  id: pseudonym(info.uuid),
  formatVersion: info.formatVersion,
  engine: info.engine,
  chunker: info.chunker,
  chunkBytes: [info.chunkMinBytes, info.chunkMeanBytes, info.chunkMaxBytes],
  created: info.created,
});

/** Numbers only. */
function aboutStats(stats: Stats) {
  const numbers = Object.entries(stats).filter(([, value]) => typeof value === 'number');
  return {
    ...Object.fromEntries(numbers),
    opLatencies: stats.opLatencies.map(({ op, count, meanUs, p50Us, p99Us }) => ({ op, count, meanUs, p50Us, p99Us })),
    damaged: stats.damaged.length,
  };
}

function aboutStatus(status: DaemonStatus) {
  const { access, since, dirtyBytes, space, damaged, tasks, overdue, scrub, policy, stillForMs } = status;
  return {
    access,
    since,
    version: status.version,
    dirtyBytes,
    space,
    stillForMs,
    damaged: damaged.map(({ detail }) => withoutNames(detail)),
    tasks: tasks.map(({ name, state, busyMs, restarts, detail }) => ({
      name,
      state,
      busyMs,
      restarts,
      detail: withoutNames(detail),
    })),
    overdue: overdue.map(({ op, count, longestMs }) => ({ op, count, longestMs })),
    scrub: { ...scrub, failure: withoutNames(scrub.failure) },
    policy:
      policy === null
        ? null
        : {
            schedule: policy.schedule,
            next: policy.next,
            lastError: policy.lastError === null ? null : withoutNames(policy.lastError.message),
          },
  };
}

async function aboutServed(client: VolumeClient) {
  const [status, stats, info] = await Promise.all([client.status(), client.stats(), client.info()]);
  const identity = { version: status.version, uuid: pseudonym(status.uuid), mountpoint: 'mount' };
  return {
    info: aboutInfo(info),
    status: aboutStatus(status),
    stats: aboutStats(stats),
    metrics: exposition(stats, identity).split('\n'),
    snapshots: (await client.snapshots.list()).length,
    vault: (await client.vault.status()).state,
    log: await logTail(status.logFile),
  };
}

/** Of a volume that nobody has open also what fsck says of it. */
async function aboutUnserved(directory: string) {
  const info = await NativeVolume.inspect(directory);
  const about = { info: aboutInfo(info), mounted: false };
  if (info.holderPid != null) {
    return { ...about, fsck: 'another process has it open' };
  }
  const { verdict, findings } = await NativeVolume.fsck(directory, false);
  const counts = new Map<string, number>();
  for (const { code, mending } of findings) {
    const key = `${code}: ${mending}`;
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return { ...about, fsck: { verdict, findings: Object.fromEntries(counts) } };
}

async function aboutVolume(path: string): Promise<unknown> {
  try {
    const served = await findServed(path);
    if (served === undefined) {
      return await aboutUnserved(path);
    }
    await using client = await VolumeClient.to(served);
    return await aboutServed(client);
  } catch (thrown) {
    const { code, message } = toVerfsError(thrown);
    return { error: code, message: withoutNames(message) };
  }
}

/** Gathers what somebody who helps needs to know. What can't be had is told in its place. */
export async function supportBundle({ found, volume, config }: BundleRequest): Promise<Bundle> {
  return {
    bundle: 1,
    made: new Date().toISOString(),
    versions: { verfs: version(), node: process.version, kernel: release(), arch: process.arch },
    isRoot: process.getuid?.() === 0,
    configuration: configuration(config),
    doctor: found.map(({ check, verdict, found: what }) => ({ check, verdict, found: withoutNames(what) })),
    volume: volume === undefined ? null : await aboutVolume(volume),
  };
}
