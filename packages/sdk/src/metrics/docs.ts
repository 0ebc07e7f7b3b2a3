import { infoMetric, metrics, operationMetric } from './definitions.ts';

/** The text of docs/METRICS.md. */
export function metricsMarkdown(): string {
  const { name, help } = operationMetric;
  const rows = [
    [infoMetric.name, 'gauge', `${infoMetric.help} Labels: \`version\`, \`uuid\`, \`mountpoint\`.`],
    ...metrics.map((metric) => [metric.name, metric.type, metric.help]),
    [name, 'summary', `${help} Labels: \`op\`, \`quantile\` (0.5 and 0.99, since the mount).`],
  ];
  return [
    '# Metrics',
    '',
    'Generated from `packages/sdk/src/metrics/definitions.ts` by `npm run generate`; a test compares them.',
    '',
    'A daemon serves them for [Prometheus](https://prometheus.io) when it is asked to, on this machine only:',
    '',
    '```sh',
    'mkdir -p ~/verfs',
    'verfs mount ~/verfs --metrics unix:/tmp/verfs-metrics.sock',
    'curl --unix-socket /tmp/verfs-metrics.sock http://localhost/metrics',
    'verfs unmount ~/verfs',
    '```',
    '',
    'or at a port, as `127.0.0.1:9464`, or with `metrics.listen` in the configuration. `unix:PATH` is a socket that only its',
    'owner may open; a port is open to every user of the machine. No name and no content of a file is among them. [grafana/verfs.json](grafana/verfs.json)',
    'is a dashboard of them for Grafana. Names are stable; counters begin at 0 with each mount, the two of dedup excepted.',
    '',
    '| name | type | meaning |',
    '|---|---|---|',
    ...rows.map(([metric, type, meaning]) => `| \`${metric}\` | ${type} | ${meaning} |`),
    '',
  ].join('\n');
}
