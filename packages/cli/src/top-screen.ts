/** What `verfs top` shows of two looks at a volume. Never here: where it is shown, or when. */
import type { GcStatus, Stats } from '@verfs/sdk';
import { formatBytes, formatTable, ratio } from './format.ts';

/** One look. */
export interface Sample {
  /** Steady time, in milliseconds. */
  readonly at: number;
  readonly stats: Stats;
  readonly gc: GcStatus;
}

/** What happened between two looks, per second, and what stands at the second. */
export interface Rates {
  readonly seconds: number;
  readonly readBytesPerSecond: number;
  readonly writtenBytesPerSecond: number;
  readonly operationsPerSecond: number;
  /** Those that came meanwhile, the most frequent first. */
  readonly operations: readonly { readonly op: string; readonly perSecond: number; readonly meanUs: number }[];
  /** Of reads of chunks and of written chunks meanwhile; none when there were none. */
  readonly chunkCacheHitShare: number | null;
  readonly dedupHitShare: number | null;
  readonly groupsPerSecond: number;
  readonly logFramesPerSecond: number;
  readonly reclaimedBytesPerSecond: number;
}

const share = (hits: number, misses: number) => (hits + misses === 0 ? null : hits / (hits + misses));

/** The rates from `before` to `now`. A volume that was mounted anew between them counts from nothing. */
export function ratesOf(before: Sample, now: Sample): Rates {
  const seconds = Math.max((now.at - before.at) / 1000, 0.001);
  const grown = (of: (stats: Stats) => number) => {
    const [was, is] = [of(before.stats), of(now.stats)];
    return is < was ? is : is - was;
  };
  const earlier = new Map(before.stats.opLatencies.map((one) => [one.op, one]));
  const operations = now.stats.opLatencies
    .map(({ op, count, meanUs }) => {
      const known = earlier.get(op);
      const was = known === undefined || known.count > count ? { count: 0, meanUs: 0 } : known;
      const came = count - was.count;
      const tookUs = count * meanUs - was.count * was.meanUs;
      return { op, perSecond: came / seconds, meanUs: came === 0 ? 0 : Math.max(tookUs / came, 0) };
    })
    .filter(({ perSecond }) => perSecond > 0)
    .sort((a, b) => b.perSecond - a.perSecond);
  return {
    seconds,
    readBytesPerSecond: grown((stats) => stats.readBytes) / seconds,
    writtenBytesPerSecond: grown((stats) => stats.writtenBytes) / seconds,
    operationsPerSecond: operations.reduce((sum, { perSecond }) => sum + perSecond, 0),
    operations,
    chunkCacheHitShare: share(
      grown((stats) => stats.chunkCacheHits),
      grown((stats) => stats.chunkCacheMisses),
    ),
    dedupHitShare: share(
      grown((stats) => stats.dedupHits),
      grown((stats) => stats.dedupMisses),
    ),
    groupsPerSecond: grown((stats) => stats.groupsCommitted) / seconds,
    logFramesPerSecond: grown((stats) => stats.logFrames) / seconds,
    reclaimedBytesPerSecond: grown((stats) => stats.gcReclaimedBytes) / seconds,
  };
}

const percent = (part: number | null) => (part === null ? '-' : `${(part * 100).toFixed(0)} %`);
const perSecond = (bytes: number) => `${formatBytes(Math.round(bytes))}/s`;
const micros = (us: number) => (us < 1000 ? `${us.toFixed(0)} us` : `${(us / 1000).toFixed(1)} ms`);

/** The screen for people: a heading, what flows, what stands, and the operations that came. */
export function topScreen(mountpoint: string, rates: Rates, { stats, gc }: Sample): string[] {
  const dedup = ratio(stats.logicalBytes, stats.uniqueBytes).toFixed(2);
  const compression = ratio(stats.uniqueBytes, stats.storedBytes).toFixed(2);
  const collecting = gc.active
    ? `${gc.running.phase}, ${gc.running.packsRemoved} of ${gc.running.packsListed} packs`
    : 'idle';
  const operations = rates.operations.map(({ op, perSecond: rate, meanUs }) => {
    const total = stats.opLatencies.find((one) => one.op === op);
    return [op, rate.toFixed(1), micros(meanUs), micros(total?.p99Us ?? 0), String(total?.count ?? 0)];
  });
  return [
    `verfs top: ${mountpoint}`,
    '',
    `Read      ${perSecond(rates.readBytesPerSecond).padEnd(14)}  Written   ${perSecond(rates.writtenBytesPerSecond)}`,
    `Requests  ${`${rates.operationsPerSecond.toFixed(1)}/s`.padEnd(14)}  Waiting   ${stats.queueDepth}`,
    `Caches    ${`${percent(rates.chunkCacheHitShare)} of chunks`.padEnd(14)}  Dedup     ${percent(rates.dedupHitShare)} of chunks written`,
    `Commits   ${`${rates.groupsPerSecond.toFixed(1)}/s`.padEnd(14)}  Log       ${rates.logFramesPerSecond.toFixed(1)} frames/s`,
    `Memory    ${formatBytes(stats.memoryRssBytes).padEnd(14)}  Unwritten ${formatBytes(stats.dirtyBytes)}`,
    `Garbage   ${formatBytes(stats.deadBytes).padEnd(14)}  Collector ${collecting}, ${perSecond(rates.reclaimedBytesPerSecond)} given back`,
    `Stored    ${formatBytes(stats.storedBytes)} for ${formatBytes(stats.logicalBytes)} in ${stats.files} files (dedup ${dedup}x, compression ${compression}x)`,
    '',
    ...formatTable(['Operation', 'Per second', 'Mean', '99 %', 'Since mount'], operations, [
      'Per second',
      'Mean',
      '99 %',
      'Since mount',
    ]),
  ];
}
