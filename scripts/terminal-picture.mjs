/**
 * `npm run picture`: docs/terminal.svg, what a terminal shows of a first minute with VerFS. The commands are run; what they
 * print is what is shown. With `--print` the lines go to standard output instead.
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { prepare } from './prepare.mjs';
import { Hindrance, runScript, step } from './progress.mjs';
import { root } from './stamp.mjs';

/** What is typed. */
const commands = [
  'mkdir verfs && verfs mount verfs',
  'head -c 20000000 /dev/urandom > verfs/data; cp verfs/data verfs/copy',
  "yes 'a line that compresses well' | head -n 500000 > verfs/text",
  'verfs du verfs',
  'verfs snapshot create before; rm verfs/data verfs/copy',
  'verfs snapshot diff before',
  'verfs snapshot restore before data; ls verfs',
  'verfs unmount verfs',
];

const look = { fontSize: 14, lineHeight: 19, columns: 100, margin: 16, background: '#1e1e2e', text: '#cdd6f4' };
const colours = { prompt: '#a6e3a1', command: '#f5e0dc' };

const escaped = (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

function record() {
  const home = mkdtempSync(join(tmpdir(), 'verfs-picture-'));
  const bin = join(home, '.bin');
  mkdirSync(bin);
  writeFileSync(join(bin, 'verfs'), `#!/bin/sh\nexec '${process.execPath}' '${root}/packages/cli/bin/verfs.js' "$@"\n`);
  chmodSync(join(bin, 'verfs'), 0o755);
  const env = { ...process.env, HOME: home, PATH: `${bin}:${process.env.PATH}`, LC_ALL: 'C.UTF-8' };
  const shown = [];
  try {
    for (const command of commands) {
      const said = spawnSync('sh', ['-c', `${command} 2>&1`], { cwd: home, env, encoding: 'utf8' });
      if (said.status !== 0) {
        throw new Hindrance(`${command}: ${said.stdout}`);
      }
      // Where it was recorded is nothing for a picture, nor is which process it was.
      const told = said.stdout.replaceAll(home, '~').replaceAll(/process \d+/g, 'process 4711');
      shown.push(
        { kind: 'command', text: command },
        ...told
          .split('\n')
          .filter(Boolean)
          .map((text) => ({ text })),
      );
    }
  } finally {
    spawnSync('sh', ['-c', 'verfs unmount verfs'], { cwd: home, env });
    rmSync(home, { recursive: true, force: true });
  }
  return shown;
}

function picture(lines) {
  const { fontSize, lineHeight, columns, margin, background, text: foreground } = look;
  const [width, height] = [columns * fontSize * 0.6 + 2 * margin, lines.length * lineHeight + 2 * margin];
  const rows = lines.map(({ kind, text }, index) => {
    const at = `x="${margin}" y="${margin + (index + 0.75) * lineHeight}"`;
    const cut = escaped(text.slice(0, columns));
    return kind === 'command'
      ? `<text ${at}><tspan fill="${colours.prompt}">$ </tspan><tspan fill="${colours.command}">${cut}</tspan></text>`
      : `<text ${at}>${cut}</text>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}">`,
    '<title>A first minute with VerFS</title>',
    `<rect width="100%" height="100%" rx="8" fill="${background}"/>`,
    `<g fill="${foreground}" font-family="ui-monospace, Menlo, Consolas, monospace" font-size="${fontSize}" xml:space="preserve">`,
    ...rows,
    '</g>',
    '</svg>',
    '',
  ].join('\n');
}

await runScript(async () => {
  await prepare();
  if (process.argv.includes('--print')) {
    const { columns } = look;
    const text = ({ kind, text: line }) => `${kind === 'command' ? '$ ' : ''}${line.slice(0, columns)}`;
    process.stdout.write(`${record().map(text).join('\n')}\n`);
    return;
  }
  await step('docs/terminal.svg', async () => {
    const lines = record();
    writeFileSync(join(root, 'docs/terminal.svg'), picture(lines));
    return `${lines.length} lines`;
  });
});
