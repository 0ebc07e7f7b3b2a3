/** The commands of the guides do what the guides say: every block of them is run. */
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { isErrorCode } from '@verfs/errors';
import { run } from '../harness/command.ts';
import { mountpointsBelow } from '../harness/mounts.ts';
import { repository, Sandbox, verfsProgram } from '../harness/sandbox.ts';

/** Pages that are run. Blocks of `console` are for a person: they need other rights, or another machine. */
const pages = ['GUIDE.md', 'METRICS.md', 'SECURITY.md', 'SERVICE.md', 'SNAPSHOTS.md'];

/** Pages whose blocks are about this repository. */
const others = ['PERFORMANCE.md', 'RELEASING.md'];

const blocksOf = (page: string): string[] =>
  [...readFileSync(join(repository, 'docs', page), 'utf8').matchAll(/^```sh\n(.*?)^```$/gms)].map(
    (match) => match[1] ?? '',
  );

test('every page with commands is known here', () => {
  const all = readdirSync(join(repository, 'docs')).filter((name) => name.endsWith('.md'));
  const known = [...pages, ...others];
  expect(all.filter((page) => blocksOf(page).length > 0 && !known.includes(page))).toEqual([]);
  expect(pages.filter((page) => blocksOf(page).length === 0)).toEqual([]);
});

test('every error that a page names is in the table', () => {
  const all = readdirSync(join(repository, 'docs')).filter((name) => name.endsWith('.md'));
  const named = all.flatMap(
    (page) => readFileSync(join(repository, 'docs', page), 'utf8').match(/VERFS_E_[A-Z_]+/g) ?? [],
  );
  expect(named.length).toBeGreaterThan(60);
  expect([...new Set(named)].filter((code) => !isErrorCode(code))).toEqual([]);
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
