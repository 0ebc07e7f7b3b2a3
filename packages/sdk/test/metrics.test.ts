import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { parser } from '@prometheus-io/lezer-promql';
import { parseMetricsAddress } from '@verfs/config';
import type { Stats } from '@verfs/native';
import { dashboardJson, exposition, metrics, metricsMarkdown, serveMetrics } from '../src/metrics/index.ts';

const promql = parser.configure({ strict: true });
const silent = { error: () => undefined, warn: () => undefined, info: () => undefined, debug: () => undefined };
const fromRoot = (path: string) => readFileSync(new URL(`../../../${path}`, import.meta.url), 'utf8');

/** Statistics whose numbers are all different. */
const numbers = [
  'logicalBytes',
  'uniqueBytes',
  'storedBytes',
  'files',
  'directories',
  'dedupHits',
  'dedupMisses',
  'chunkCacheHits',
  'chunkCacheMisses',
  'readBytes',
  'writtenBytes',
  'dirtyBytes',
  'queueDepth',
  'groupsCommitted',
  'logFrames',
  'metaBytes',
  'packs',
  'deadBytes',
  'gcReclaimedBytes',
  'freeBytes',
  'totalBytes',
  'memoryRssBytes',
] as const satisfies (keyof Stats)[];

const stats: Stats = {
  ...(Object.fromEntries(numbers.map((name, index) => [name, 1000 + index])) as Record<
    (typeof numbers)[number],
    number
  >),
  opLatencies: [{ op: 'read', count: 4, meanUs: 250, p50Us: 200, p99Us: 900, maxUs: 1000 }],
  damaged: [{ path: 'a secret name', pack: '1', detail: 'x' }],
  tasks: [],
  overdue: [],
  refusedRequests: 0,
};
const identity = { version: '1.2.3', uuid: 'u', mountpoint: '/mnt/a "quoted" \\ \n name' };
const text = exposition(stats, identity);

describe('the text', () => {
  test('keeps to the grammar of the format: every line is a comment of its metric, or a sample of the one above', () => {
    let current = '';
    const seen = new Set<string>();
    expect(text.endsWith('\n')).toBe(true);
    for (const line of text.trimEnd().split('\n')) {
      const comment = /^# (HELP|TYPE) ([a-z_]+) (.+)$/.exec(line);
      if (comment !== null) {
        const [, kind, name = '', rest = ''] = comment;
        if (kind === 'HELP') {
          expect(seen.has(name)).toBe(false);
          seen.add(name);
          current = name;
        }
        expect(name).toBe(current);
        expect(kind === 'HELP' || ['counter', 'gauge', 'summary'].includes(rest)).toBe(true);
        continue;
      }
      const sample = /^([a-z_]+?)(_sum|_count)?(\{(?:[a-z]+="(?:[^"\\\n]|\\["\\n])*",?)+\})? (-?[0-9.e+-]+|NaN)$/.exec(
        line,
      );
      expect({ line, isSample: sample !== null }).toEqual({ line, isSample: true });
      expect(`${sample?.[1]}${sample?.[2] ?? ''}`.startsWith(current)).toBe(true);
    }
  });

  test('has every number of the statistics, each in one metric', () => {
    const values = new Map(
      [...text.matchAll(/^(verfs_[a-z_]+) (\d+)$/gm)].map(([, name, value]) => [Number(value), name]),
    );
    for (const name of numbers) {
      expect([name, values.has(stats[name])]).toEqual([name, true]);
    }
    expect(text).toContain('\nverfs_damaged_files 1\n');
    expect(text).toContain('verfs_operation_duration_seconds{op="read",quantile="0.99"} 0.0009\n');
    expect(text).toContain('verfs_operation_duration_seconds_sum{op="read"} 0.001\n');
    expect(text).toContain('verfs_operation_duration_seconds_count{op="read"} 4\n');
    expect(text).toContain(String.raw`mountpoint="/mnt/a \"quoted\" \\ \n name"`);
    expect(text).not.toContain('secret');
  });

  test('follows the conventions: counters end in _total, and units are of base', () => {
    for (const { name, type } of metrics) {
      expect([name, name.endsWith('_total')]).toEqual([name, type === 'counter']);
      expect(name).not.toMatch(/(kib|mib|_kb|_mb|_ms|_us|millis)/);
    }
  });
});

/** The metrics that a query asks for, and of each whether it is taken as a rate. The language is Prometheus's own. */
function asked(query: string): { readonly name: string; readonly isRate: boolean }[] {
  // Grafana puts a duration in the place of this.
  const text = query.replaceAll('$__rate_interval', '5m');
  const found: { name: string; isRate: boolean }[] = [];
  const functions: string[] = [];
  promql.parse(text).iterate({
    enter: ({ name, from, to }) => {
      if (name === 'FunctionCall') {
        functions.push(text.slice(from, text.indexOf('(', from)));
      } else if (name === 'VectorSelector') {
        const [metric = ''] = /^\w+/.exec(text.slice(from, to)) ?? [];
        found.push({ name: metric, isRate: functions.at(-1) === 'rate' });
      }
    },
    leave: ({ name }) => {
      if (name === 'FunctionCall') {
        functions.pop();
      }
    },
  });
  return found;
}

test('the dashboard asks, in the language of Prometheus, for metrics that docs/METRICS.md has', () => {
  const documented = [...fromRoot('docs/METRICS.md').matchAll(/^\| `(verfs_\w+)` \| (\w+) \|/gm)];
  const summed = documented
    .filter(([, , type]) => type === 'summary')
    .flatMap(([, name]) => [`${name}_sum`, `${name}_count`]);
  const counters = [...documented.filter(([, , type]) => type === 'counter').map(([, name]) => name), ...summed];
  const known = new Set([...documented.map(([, name]) => name), ...summed]);
  const parsed = JSON.parse(fromRoot('docs/grafana/verfs.json')) as { panels: { targets: { expr: string }[] }[] };
  const queries = parsed.panels.flatMap(({ targets }) => targets).map(({ expr }) => expr);
  const names = queries.flatMap(asked);
  expect(names.length).toBeGreaterThan(queries.length);
  expect(names.filter(({ name }) => !known.has(name))).toEqual([]);
  // A counter means something only as a rate, and a gauge only as it is.
  expect(names.filter(({ name, isRate }) => isRate !== counters.includes(name))).toEqual([]);
});

test('the dashboard and docs/METRICS.md are as they are generated (npm run generate)', () => {
  expect(fromRoot('docs/grafana/verfs.json')).toBe(dashboardJson());
  expect(fromRoot('docs/METRICS.md')).toBe(metricsMarkdown());
});

describe('the server', () => {
  interface Answer {
    readonly status: number | undefined;
    readonly type: string | undefined;
    readonly body: string;
  }

  const ask = (options: object): Promise<Answer> =>
    new Promise((resolve, reject) => {
      get({ path: '/metrics', agent: false, ...options }, (response) => {
        let body = '';
        response.setEncoding('utf8').on('data', (part: string) => {
          body += part;
        });
        response.on('end', () =>
          resolve({ status: response.statusCode, type: response.headers['content-type'], body }),
        );
      }).on('error', reject);
    });

  /** A port that was free a moment ago. */
  const freePort = (): Promise<number> =>
    new Promise((resolve) => {
      const server = createServer().listen(0, '127.0.0.1', () => {
        const { port } = server.address() as { port: number };
        server.close(() => resolve(port));
      });
    });

  test('answers at a port of this machine, and at no other address of it', async () => {
    const port = await freePort();
    const server = await serveMetrics(`127.0.0.1:${port}`, async () => text, silent);
    try {
      expect(await ask({ host: '127.0.0.1', port })).toEqual({
        status: 200,
        type: 'text/plain; version=0.0.4; charset=utf-8',
        body: text,
      });
      expect(await ask({ host: '127.0.0.1', port, path: '/' })).toMatchObject({ status: 404 });
      expect(await ask({ host: '127.0.0.1', port, method: 'POST' })).toMatchObject({ status: 405 });
      await expect(ask({ host: '127.0.0.2', port })).rejects.toMatchObject({ code: 'ECONNREFUSED' });
      const second = serveMetrics(`127.0.0.1:${port}`, async () => text, silent);
      await expect(second).rejects.toMatchObject({
        code: 'VERFS_E_IO',
        message: expect.stringContaining('EADDRINUSE'),
      });
    } finally {
      await server.close();
    }
    await expect(ask({ host: '127.0.0.1', port })).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });

  test('answers at a socket that is its owner’s only, also where a dead one was, and says when it cannot', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'verfs-test-metrics-'));
    const socketPath = join(directory, 'metrics.sock');
    writeFileSync(socketPath, 'left by a crash');
    const server = await serveMetrics(`unix:${socketPath}`, () => Promise.reject(new Error('no statistics')), silent);
    try {
      expect(statSync(socketPath).mode & 0o777).toBe(0o600);
      expect(await ask({ socketPath })).toMatchObject({ status: 500, body: '' });
    } finally {
      await server.close();
      rmSync(directory, { recursive: true });
    }
  });

  test.each([
    ['127.0.0.1:9464', { host: '127.0.0.1', port: 9464 }],
    ['localhost:80', { host: 'localhost', port: 80 }],
    ['[::1]:9464', { host: '::1', port: 9464 }],
    ['unix:/run/x', { path: '/run/x' }],
    ['unix:relative', undefined],
    ['0.0.0.0:9464', undefined],
    ['192.168.1.1:9464', undefined],
    ['127.0.0.1:0', undefined],
    ['127.0.0.1:70000', undefined],
    ['127.0.0.1', undefined],
    ['example.org:80', undefined],
  ])('takes %s for %j', async (address, expected) => {
    expect(parseMetricsAddress(address)).toEqual(expected);
    if (expected === undefined) {
      await expect(serveMetrics(address, async () => '', silent)).rejects.toMatchObject({ code: 'VERFS_E_USAGE' });
    }
  });
});
