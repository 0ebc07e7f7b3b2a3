// What a run is shown as: a table, a page with plots, and warnings beside the figures of an earlier run.

import * as echarts from 'echarts';
import { median } from './filesystems.mjs';

/** A ratio below this share of the earlier one is worth a warning. */
const regression_share = 0.8;

function spreadPercent(values) {
  return Math.round(((Math.max(...values) - Math.min(...values)) / median(values)) * 100);
}

/** VerFS's median as a share of another file system's; undefined where one has none. */
function ratio(values, other) {
  if (!values.verfs?.length || !values[other]?.length) return undefined;
  return median(values.verfs) / median(values[other]);
}

function cells({ values }, names) {
  const figures = names.map((name) =>
    values[name]?.length ? `${Math.round(median(values[name]))} ±${spreadPercent(values[name])}%` : '–',
  );
  const ratios = names.slice(1).map((name) => ratio(values, name)?.toFixed(2) ?? '–');
  return [...figures, ...ratios];
}

const heads = (names) => ['work', 'unit', ...names, ...names.slice(1).map((name) => `verfs / ${name}`)];

/** The table in Markdown; `names` begins with verfs. */
export function table(results, names) {
  const lines = results.map((result) => [result.row.title, result.row.unit, ...cells(result, names)]);
  const head = heads(names);
  return [head, head.map(() => '---'), ...lines].map((line) => `| ${line.join(' | ')} |`).join('\n');
}

/** The ratios to each other file system that later runs are held against. */
export function baselineOf(results, names) {
  const ratios = ({ values }) =>
    names.slice(1).flatMap((name) => {
      const share = ratio(values, name);
      return share === undefined ? [] : [[name, Number(share.toFixed(3))]];
    });
  return Object.fromEntries(results.map((result) => [result.row.name, Object.fromEntries(ratios(result))]));
}

/** What is clearly slower, beside the same file system, than it was. */
export function regressions(baseline, results, names) {
  const now = baselineOf(results, names);
  return Object.entries(now).flatMap(([row, ratios]) =>
    Object.entries(ratios)
      .filter(([name, share]) => share < (baseline[row]?.[name] ?? 0) * regression_share)
      .map(([name, share]) => `${row}: ${share} of ${name}, it was ${baseline[row][name]}`),
  );
}

/** A plot of one row: each file system's median, and its slowest and quickest repetition. */
function plot({ row, values }, names) {
  const shown = names.filter((name) => values[name]?.length);
  const chart = echarts.init(null, null, { renderer: 'svg', ssr: true, width: 560, height: 60 + 34 * shown.length });
  chart.setOption({
    animation: false,
    title: { text: row.title, textStyle: { fontSize: 14 } },
    grid: { left: 90, right: 60, top: 36, bottom: 24 },
    xAxis: { type: 'value', name: row.unit },
    yAxis: { type: 'category', data: shown, inverse: true },
    series: [
      {
        type: 'bar',
        data: shown.map((name) => ({
          value: Math.round(median(values[name])),
          itemStyle: { color: name === 'verfs' ? '#2563eb' : '#94a3b8' },
        })),
        label: { show: true, position: 'insideLeft', color: '#fff' },
      },
      {
        type: 'custom',
        data: shown.map((name, index) => [Math.min(...values[name]), Math.max(...values[name]), index]),
        renderItem(_, api) {
          const [from, to] = [0, 1].map((dimension) => api.coord([api.value(dimension), api.value(2)]));
          return {
            type: 'line',
            shape: { x1: from[0], y1: from[1], x2: to[0], y2: to[1] },
            style: { stroke: '#111', lineWidth: 2 },
          };
        },
        encode: { x: [0, 1], y: 2 },
      },
    ],
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  return svg;
}

const escaped = (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');

/** One page with everything in it: plots, figures, and the machine's description. */
export function page(results, names, notes) {
  const rows = results.map((result) => [result.row.title, result.row.unit, ...cells(result, names)]);
  const line = (tag, texts) => `<tr>${texts.map((text) => `<${tag}>${escaped(text)}</${tag}>`).join('')}</tr>`;
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>VerFS: benchmark</title>
<style>
body { font: 15px system-ui, sans-serif; margin: 2rem; color: #0f172a; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
td, th { border-bottom: 1px solid #cbd5e1; padding: .3rem .6rem; text-align: right; }
td:first-child, th:first-child { text-align: left; }
.plots { display: flex; flex-wrap: wrap; gap: 1.5rem; }
</style>
<h1>VerFS: benchmark</h1>
${notes.map((note) => `<p>${escaped(note)}</p>`).join('\n')}
<p>Medians; ± is what lies between the slowest and the quickest repetition.</p>
<table>${line('th', heads(names))}${rows.map((row) => line('td', row)).join('\n')}</table>
<div class="plots">${results.map((result) => plot(result, names)).join('\n')}</div>
</html>
`;
}
