/** The page of `verfs dedup-report`: HTML with its plots in it, which needs nothing else. Never here: where figures come from. */
import type { Usage } from '@verfs/sdk';
import { formatBytes, ratio } from './format.ts';

/** A part of what is reported, by its path from the root of the volume. */
export interface ReportedPart {
  readonly path: string;
  readonly usage: Usage;
}

/** What a page tells. */
export interface DedupReport {
  readonly volume: string;
  readonly whole: ReportedPart;
  /** The largest first. */
  readonly parts: readonly ReportedPart[];
  /** When it was made, in milliseconds since 1970. */
  readonly time: number;
}

const escaped = (text: string) =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');

/** What a bar is made of: names, colours, and how many bytes of the logical size each is. */
const slices = [
  { name: 'its own', colour: '#4c78a8', bytes: ({ uniqueBytes, sharedBytes }: Usage) => uniqueBytes - sharedBytes },
  { name: 'shared with other files', colour: '#72b7b2', bytes: ({ sharedBytes }: Usage) => sharedBytes },
  {
    name: 'there twice within it, or holes',
    colour: '#d3d3d3',
    bytes: ({ logicalBytes, uniqueBytes }: Usage) => Math.max(logicalBytes - uniqueBytes, 0),
  },
] as const;

const barWidth = 700;
const rowHeight = 26;

function bars(parts: readonly ReportedPart[]): string {
  const most = Math.max(1, ...parts.map(({ usage }) => usage.logicalBytes));
  const rows = parts.map(({ path, usage }, index) => {
    let x = 0;
    const drawn = slices.map(({ name, colour, bytes }) => {
      const width = (bytes(usage) / most) * barWidth;
      const at = x;
      x += width;
      const title = `${escaped(path)}: ${formatBytes(bytes(usage))} ${name}`;
      return `<rect x="${at.toFixed(1)}" width="${width.toFixed(1)}" height="14" y="6" fill="${colour}"><title>${title}</title></rect>`;
    });
    const label = `<text x="-8" y="17" text-anchor="end">${escaped(path)}</text>`;
    return `<g transform="translate(260 ${index * rowHeight})">${label}${drawn.join('')}</g>`;
  });
  const height = parts.length * rowHeight;
  return `<svg role="img" viewBox="0 0 ${barWidth + 270} ${height}" width="${barWidth + 270}" height="${height}">${rows.join('')}</svg>`;
}

const headings = ['Path', 'Files', 'Logical', 'Unique', 'Shared', 'Stored', 'Its own', 'Dedup', 'Compression'];

function row({ path, usage }: ReportedPart): string {
  const cells = [
    String(usage.files),
    ...[usage.logicalBytes, usage.uniqueBytes, usage.sharedBytes, usage.storedBytes, usage.exclusiveBytes].map(
      formatBytes,
    ),
    `${ratio(usage.logicalBytes, usage.uniqueBytes).toFixed(2)}x`,
    `${ratio(usage.uniqueBytes, usage.storedBytes).toFixed(2)}x`,
  ];
  return `<tr><th scope="row">${escaped(path)}</th>${cells.map((cell) => `<td>${cell}</td>`).join('')}</tr>`;
}

const style = `
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: 0.25rem 0.6rem; text-align: right; border-bottom: 1px solid #8884; }
th:first-child { text-align: left; font-weight: normal; word-break: break-all; }
thead th { font-weight: bold; }
svg { max-width: 100%; height: auto; }
svg text { fill: currentColor; font-size: 13px; }
.key i { display: inline-block; width: 0.9em; height: 0.9em; margin: 0 0.4em 0 1em; vertical-align: -0.1em; }
`;

/** The page. */
export function dedupPage({ volume, whole, parts, time }: DedupReport): string {
  const key = slices.map(({ name, colour }) => `<i style="background:${colour}"></i>${name}`).join('');
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>What ${escaped(volume)} takes</title>
<style>${style}</style>
<h1>What ${escaped(volume)} takes</h1>
<p>${escaped(whole.path)}, ${new Date(time).toISOString().slice(0, 16).replace('T', ' ')} UTC. ${formatBytes(whole.usage.logicalBytes)} in ${whole.usage.files} files are
${formatBytes(whole.usage.uniqueBytes)} of distinct chunks, stored in ${formatBytes(whole.usage.storedBytes)}.</p>
<p class="key">Of the logical size:${key}</p>
${bars(parts)}
<table>
<thead><tr>${headings.map((heading) => `<th scope="col">${heading}</th>`).join('')}</tr></thead>
<tbody>
${[...parts, whole].map(row).join('\n')}
</tbody>
</table>
<p>Shared is what other files of the volume are made of as well; its own is what a deletion would give back, snapshots aside.</p>
</html>
`;
}
