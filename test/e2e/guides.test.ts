/** The commands of the guides do what the guides say: every block of them is run. */
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from '@jest/globals';
import { loadConfig } from '@verfs/config';
import { isErrorCode } from '@verfs/errors';
import { run } from '../harness/command.ts';
import { mountpointsBelow } from '../harness/mounts.ts';
import { repository, Sandbox, verfsProgram } from '../harness/sandbox.ts';

/** Pages that are run. Blocks of `console` are for a person: they need other rights, or another machine. */
const pages = [
  'GUIDE.md',
  'METRICS.md',
  'SECURITY.md',
  'SERVICE.md',
  'SNAPSHOTS.md',
  'TROUBLESHOOTING.md',
  'TUNING.md',
];

/** Pages whose blocks are about this repository. */
const others = ['PERFORMANCE.md', 'RELEASING.md'];

const textOf = (page: string) => readFileSync(join(repository, 'docs', page), 'utf8');

const blocksOf = (page: string, language = 'sh'): string[] =>
  [...textOf(page).matchAll(/^```(\w+)\n(.*?)^```$/gms)]
    .filter(([, found]) => found === language)
    .map(([, , text = '']) => text);

/** What a link to a part of a page may have behind the `#`: headings as GitHub writes them, and marks. */
function anchorsOf(page: string): Set<string> {
  const headings = [...textOf(page).matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
  const marks = [...textOf(page).matchAll(/<a id="([^"]+)">/g)].map(([, mark = '']) => mark);
  return new Set([...headings, ...marks]);
}

test('every page with commands is known here', () => {
  const all = readdirSync(join(repository, 'docs')).filter((name) => name.endsWith('.md'));
  const known = [...pages, ...others];
  expect(all.filter((page) => blocksOf(page).length > 0 && !known.includes(page))).toEqual([]);
  expect(pages.filter((page) => blocksOf(page).length === 0)).toEqual([]);
});

test('every error that a page names is in the table', () => {
  const all = readdirSync(join(repository, 'docs')).filter((name) => name.endsWith('.md'));
  const named = all.flatMap((page) => textOf(page).match(/VERFS_E_[A-Z_]+/g) ?? []);
  expect(named.length).toBeGreaterThan(60);
  expect([...new Set(named)].filter((code) => !isErrorCode(code))).toEqual([]);
});

test('every link to a page, or to a part of one, leads somewhere', () => {
  const all = readdirSync(join(repository, 'docs'), { recursive: true, encoding: 'utf8' });
  const sources = ['../README.md', ...all.filter((name) => name.endsWith('.md'))];
  const links = sources.flatMap((page) =>
    [...textOf(page).matchAll(/\]\(([^):#\s]*)(?:#([^)\s]+))?\)/g)].map(([, path = '', anchor]) => ({
      from: page,
      to: path === '' ? page : join(dirname(page), path),
      anchor,
    })),
  );
  expect(links.length).toBeGreaterThan(120);
  expect(links.filter(({ anchor }) => anchor !== undefined).length).toBeGreaterThan(30);
  const isBroken = ({ to, anchor }: (typeof links)[number]) =>
    !existsSync(join(repository, 'docs', to)) || (anchor !== undefined && !anchorsOf(to).has(anchor));
  expect(links.filter(isBroken)).toEqual([]);
});

test('every piece of a configuration that a page shows is one', async () => {
  await using sandbox = new Sandbox();
  const all = readdirSync(join(repository, 'docs')).filter((name) => name.endsWith('.md'));
  const shown = all.flatMap((page) => blocksOf(page, 'toml').map((text) => ({ page, text })));
  expect(shown.length).toBeGreaterThan(5);
  for (const { page, text } of shown) {
    writeFileSync(sandbox.path('shown.toml'), text);
    try {
      loadConfig(sandbox.path('shown.toml'));
    } catch (cause) {
      throw new Error(`${page} shows what is no configuration:\n${text}`, { cause });
    }
  }
});

test('the picture of a terminal shows what the commands print today', async () => {
  const { code, stdout, stderr } = await run(process.execPath, ['scripts/terminal-picture.mjs', '--print'], {
    cwd: repository,
    timeoutMs: 150_000,
  });
  expect({ code, stderr: code === 0 ? '' : stderr }).toEqual({ code: 0, stderr: '' });
  const shown = readFileSync(join(repository, 'docs/terminal.svg'), 'utf8');
  // Sizes, and the order of a directory, differ a little from one run to the next.
  const lines = (text: string) =>
    text
      .split('\n')
      .map((line) => line.replace(/\d+(\.\d+)?/g, '0'))
      .sort();
  const picture = [...shown.matchAll(/<text[^>]*>(.*)<\/text>/g)].map(([, text = '']) =>
    text
      .replace(/<[^>]*>/g, '')
      .replaceAll('&lt;', '<')
      .replaceAll('&gt;', '>')
      .replaceAll('&amp;', '&'),
  );
  expect(lines(picture.join('\n'))).toEqual(lines(stdout.trimEnd()));
}, 180_000);

test.each(pages)('the commands of %s can be run as they stand', async (page) => {
  await using sandbox = new Sandbox();
  const bin = sandbox.path('bin');
  mkdirSync(bin);
  writeFileSync(join(bin, 'verfs'), `#!/bin/sh\nexec '${process.execPath}' '${verfsProgram}' "$@"\n`);
  chmodSync(join(bin, 'verfs'), 0o755);
  const script = blocksOf(page)
    // The sandbox has its own place for what the page puts into /tmp.
    .map((block) => block.replaceAll('/tmp/', `${sandbox.root}/`))
    .join('\n');
  const env = { ...sandbox.env, PATH: `${bin}:${sandbox.env['PATH']}` };
  const { code, stdout, stderr } = await run('bash', ['-e', '-x', '-c', script], {
    cwd: sandbox.home,
    env,
    timeoutMs: 150_000,
  });
  expect({ code, stdout, stderr: code === 0 ? '' : stderr }).toMatchObject({ code: 0, stderr: '' });
  expect(mountpointsBelow(sandbox.root)).toEqual([]);
});
