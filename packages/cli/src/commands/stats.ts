import type { Stats } from '@verfs/sdk';
import type { Argv } from 'yargs';
import type { CommonArguments, TargetArguments } from '../context.ts';
import { formatBytes, formatEntries, formatRows, ratio } from '../format.ts';
import { createOutput } from '../output.ts';
import { withVolume } from '../volume-access.ts';

/** Options of `verfs stats`. */
export const statsBuilder = (yargs: Argv<CommonArguments>) =>
  yargs
    .positional('path', { type: 'string', describe: 'The mountpoint, or a path in the mount' })
    .option('volume', { type: 'string', requiresArg: true, describe: 'Directory of the volume' })
    .example('$0 stats ~/verfs', 'sizes, ratios, caches and latencies')
    .example('$0 stats --volume /srv/a --json', 'the same of a volume that need not be mounted');

function statsText(stats: Stats): string[] {
  const of = (hits: number, misses: number) => `${hits} hits, ${misses} misses`;
  const rows = formatRows([
    ['Files', formatEntries(stats)],
    ['Logical', formatBytes(stats.logicalBytes)],
    ['Unique', `${formatBytes(stats.uniqueBytes)} (dedup ${ratio(stats.logicalBytes, stats.uniqueBytes).toFixed(2)}x)`],
    [
      'Stored',
      `${formatBytes(stats.storedBytes)} (compression ${ratio(stats.uniqueBytes, stats.storedBytes).toFixed(2)}x)`,
    ],
    ['Dead', `${formatBytes(stats.deadBytes)} (${formatBytes(stats.gcReclaimedBytes)} reclaimed since it was opened)`],
    ['Metadata', formatBytes(stats.metaBytes)],
    ['Packs', String(stats.packs)],
    ['Disk', `${formatBytes(stats.freeBytes)} free of ${formatBytes(stats.totalBytes)}`],
    ['Dedup', of(stats.dedupHits, stats.dedupMisses)],
    ['Chunk cache', of(stats.chunkCacheHits, stats.chunkCacheMisses)],
    ['To be written', formatBytes(stats.dirtyBytes)],
    ['Queue', `${stats.queueDepth} requests`],
    ['Groups', `${stats.groupsCommitted} committed`],
    ['Intent log', `${stats.logFrames} frames`],
    ['Memory', formatBytes(stats.memoryRssBytes)],
  ]);
  const latencies = stats.opLatencies.map(({ op, count, meanUs, p50Us, p99Us, maxUs }) =>
    [op.padEnd(14), ...[count, meanUs, p50Us, p99Us, maxUs].map((value) => value.toFixed(0).padStart(10))].join(''),
  );
  const heading = [
    'operation'.padEnd(14),
    ...['count', 'mean us', 'p50 us', 'p99 us', 'max us'].map((name) => name.padStart(10)),
  ];
  return latencies.length === 0 ? rows : [...rows, '', heading.join(''), ...latencies];
}

/** Shows what a volume holds and how it works. */
export async function stats(args: TargetArguments): Promise<void> {
  const output = createOutput(args.json ? 'json' : 'text');
  const answer = await withVolume(args, (volume) => volume.stats());
  const dedupRatio = ratio(answer.logicalBytes, answer.uniqueBytes);
  const compressionRatio = ratio(answer.uniqueBytes, answer.storedBytes);
  output.result({ ...answer, dedupRatio, compressionRatio }, () => statsText(answer));
}
