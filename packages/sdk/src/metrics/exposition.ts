import type { Stats } from '@verfs/native';
import { infoMetric, metrics, operationMetric } from './definitions.ts';

/** What is served. */
export interface MetricsIdentity {
  readonly version: string;
  readonly uuid: string;
  readonly mountpoint: string;
}

/** A label's value, as the text format has it. */
const labelText = (value: string) => value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');

const labels = (values: Readonly<Record<string, string>>) =>
  `{${Object.entries(values)
    .map(([name, value]) => `${name}="${labelText(value)}"`)
    .join(',')}}`;

const head = (name: string, type: string, help: string) => [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`];

function operationLines(stats: Stats): string[] {
  const { name, help } = operationMetric;
  const lines = stats.opLatencies.flatMap(({ op, count, meanUs, p50Us, p99Us }) => [
    `${name}${labels({ op, quantile: '0.5' })} ${p50Us / 1e6}`,
    `${name}${labels({ op, quantile: '0.99' })} ${p99Us / 1e6}`,
    `${name}_sum${labels({ op })} ${(meanUs * count) / 1e6}`,
    `${name}_count${labels({ op })} ${count}`,
  ]);
  return lines.length === 0 ? [] : [...head(name, 'summary', help), ...lines];
}

/** `stats` in the text format of Prometheus, version 0.0.4. */
export function exposition(stats: Stats, identity: MetricsIdentity): string {
  const plain = metrics.flatMap(({ name, type, help, value }) => [
    ...head(name, type, help),
    `${name} ${value(stats)}`,
  ]);
  const info = [...head(infoMetric.name, 'gauge', infoMetric.help), `${infoMetric.name}${labels({ ...identity })} 1`];
  return `${[...info, ...plain, ...operationLines(stats)].join('\n')}\n`;
}
