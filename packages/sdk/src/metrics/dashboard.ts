/** A dashboard for Grafana, made of the metrics that there are. */

interface Panel {
  readonly title: string;
  /** A unit of Grafana. */
  readonly unit: 'bytes' | 'Bps' | 'ops' | 's' | 'short' | 'percentunit';
  readonly queries: readonly (readonly [expression: string, legend: string])[];
}

const rate = (metric: string) => `rate(${metric}{instance=~"$instance"}[$__rate_interval])`;
const value = (metric: string) => `${metric}{instance=~"$instance"}`;

const panels: readonly Panel[] = [
  {
    title: 'Throughput',
    unit: 'Bps',
    queries: [
      [rate('verfs_read_bytes_total'), 'read'],
      [rate('verfs_written_bytes_total'), 'written'],
    ],
  },
  {
    title: 'Operations',
    unit: 'ops',
    queries: [[`sum by (op) (${rate('verfs_operation_duration_seconds_count')})`, '{{op}}']],
  },
  {
    title: 'Latency, mean',
    unit: 's',
    queries: [
      [`${rate('verfs_operation_duration_seconds_sum')} / ${rate('verfs_operation_duration_seconds_count')}`, '{{op}}'],
    ],
  },
  {
    title: 'Latency, 99 of 100 since the mount',
    unit: 's',
    queries: [['verfs_operation_duration_seconds{instance=~"$instance",quantile="0.99"}', '{{op}}']],
  },
  {
    title: 'Space',
    unit: 'bytes',
    queries: [
      [value('verfs_logical_bytes'), 'logical'],
      [value('verfs_unique_bytes'), 'unique'],
      [value('verfs_stored_bytes'), 'stored'],
      [value('verfs_metadata_bytes'), 'metadata'],
      [value('verfs_dead_bytes'), 'dead'],
    ],
  },
  {
    title: 'Ratios',
    unit: 'short',
    queries: [
      [`${value('verfs_logical_bytes')} / ${value('verfs_unique_bytes')}`, 'dedup'],
      [`${value('verfs_unique_bytes')} / ${value('verfs_stored_bytes')}`, 'compression'],
    ],
  },
  {
    title: 'Chunk cache, share of hits',
    unit: 'percentunit',
    queries: [
      [
        `${rate('verfs_chunk_cache_hits_total')} / (${rate('verfs_chunk_cache_hits_total')} + ${rate('verfs_chunk_cache_misses_total')})`,
        'hits',
      ],
    ],
  },
  {
    title: 'Dedup, chunks written',
    unit: 'ops',
    queries: [
      [rate('verfs_dedup_hits_total'), 'there already'],
      [rate('verfs_dedup_misses_total'), 'new'],
    ],
  },
  {
    title: 'Memory and data to be written',
    unit: 'bytes',
    queries: [
      [value('verfs_resident_memory_bytes'), 'resident memory'],
      [value('verfs_dirty_bytes'), 'to be written'],
    ],
  },
  {
    title: 'Commits',
    unit: 'ops',
    queries: [
      [rate('verfs_groups_committed_total'), 'groups'],
      [rate('verfs_intent_log_frames_total'), 'frames of the intent log'],
    ],
  },
  {
    title: 'Garbage collection',
    unit: 'Bps',
    queries: [[rate('verfs_gc_reclaimed_bytes_total'), 'given back']],
  },
  {
    title: 'Disk, waiting requests, damage',
    unit: 'short',
    queries: [
      [`${value('verfs_free_bytes')} / ${value('verfs_disk_bytes')}`, 'free share of the disk'],
      [value('verfs_queued_requests'), 'waiting requests'],
      [value('verfs_damaged_files'), 'damaged files'],
    ],
  },
];

/** Of the width of a dashboard, 24. */
const panelWidth = 12;
const panelHeight = 8;
const datasource = { type: 'prometheus', uid: '$' + '{datasource}' };

function panelJson({ title, unit, queries }: Panel, index: number): object {
  return {
    id: index + 1,
    type: 'timeseries',
    title,
    datasource,
    gridPos: {
      x: (index % 2) * panelWidth,
      y: Math.floor(index / 2) * panelHeight,
      w: panelWidth,
      h: panelHeight,
    },
    fieldConfig: { defaults: { unit, min: 0 }, overrides: [] },
    targets: queries.map(([expr, legendFormat], at) => {
      return { refId: String.fromCharCode(65 + at), datasource, expr, legendFormat };
    }),
  };
}

/** The text of docs/grafana/verfs.json. */
export function dashboardJson(): string {
  const variables = [
    { name: 'datasource', type: 'datasource', query: 'prometheus', label: 'Data source' },
    {
      name: 'instance',
      type: 'query',
      label: 'Daemon',
      datasource,
      query: 'label_values(verfs_info, instance)',
      includeAll: true,
      multi: true,
      refresh: 2,
    },
  ];
  const dashboard = {
    uid: 'verfs',
    title: 'VerFS',
    tags: ['verfs'],
    schemaVersion: 39,
    time: { from: 'now-1h', to: 'now' },
    refresh: '10s',
    templating: { list: variables },
    panels: panels.map(panelJson),
  };
  return `${JSON.stringify(dashboard, null, 2)}\n`;
}
