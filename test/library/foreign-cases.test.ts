import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { run } from '../harness/command.ts';
import { repository, sandboxPrefix } from '../harness/sandbox.ts';

/**
 * Cases for `fs` that others wrote: those of ZenFS, an emulation of Node's `fs`, which are adapted from Node's own. They
 * run unmodified against `node:fs` and against the files of a volume; docs/NODE-FS.md says of each how that comes out.
 */
const cases = join(repository, 'node_modules/@zenfs/core/tests');
const programs = join(repository, 'test/library/zenfs');
const page = 'docs/NODE-FS.md';
const timeoutMs = 300_000;

interface Result {
  readonly outcome: 'passed' | 'failed' | 'skipped';
  readonly message?: string;
}

/** By file and name of the case. */
type Results = ReadonlyMap<string, Result>;

async function resultsOf(setup: string, directory: string): Promise<Results> {
  const files = readdirSync(join(cases, 'fs')).map((name) => join(cases, 'fs', name));
  const args = ['--no-warnings', '--import', join(programs, 'prepare.mjs'), join(programs, 'run.mjs'), ...files];
  const env = { ...(process.env as Record<string, string>), SETUP: setup, VERFS_CASES: directory, TMPDIR: directory };
  const { code, stdout, stderr } = await run(process.execPath, args, { env, timeoutMs });
  expect({ code, stderr }).toMatchObject({ code: 0 });
  const lines = stdout.split('\n').filter((line) => line.startsWith('{'));
  const results = lines.map((line) => JSON.parse(line) as Result & { readonly file: string; readonly name: string });
  return new Map(results.map(({ file, name, ...result }) => [`${file}: ${name}`, result]));
}

const resultsOfVolume = (directory: string) => resultsOf(join(programs, 'volume-setup.mjs'), directory);

const isPassed = (result: Result | undefined) => result?.outcome === 'passed';

/** What the page says of a case; `not compared`: Node itself does not pass it, being too old, or since it is about ZenFS. */
type Verdict = 'same' | 'differs' | 'missing' | 'not compared';

/** What a case that Node passes came to; `missing`: it calls a function that the files of a volume don't have. */
function verdictOf(here: Result | undefined): Verdict {
  const isMissing = here === undefined || here.outcome === 'skipped';
  if (isMissing || /^fs(\.promises)?\.\w+ is not a function$/.test(here.message ?? '')) {
    return 'missing';
  }
  return isPassed(here) ? 'same' : 'differs';
}

/** The table of the page: `| file | case | verdict | why |`. */
function tableOf(markdown: string): ReadonlyMap<string, { readonly verdict: string; readonly why: string }> {
  const [, ...rows] = markdown.split('\n').filter((line) => /^\| \w+ \| .* \|$/.test(line));
  const cells = rows.map((row) =>
    row
      .slice(1, -1)
      .split(/(?<!\\)\|/)
      .map((cell) => cell.trim()),
  );
  return new Map(
    cells.map(([file = '', name = '', verdict = '', why = '']) => [
      `${file}: ${name.replaceAll('\\|', '|')}`,
      { verdict, why },
    ]),
  );
}

describe('cases of others', () => {
  let root: string;
  let node: Results;
  let here: Results;

  beforeAll(async () => {
    root = mkdtempSync(join(tmpdir(), sandboxPrefix));
    [node, here] = await Promise.all([resultsOf(join(cases, 'native-setup.ts'), root), resultsOfVolume(root)]);
  }, timeoutMs);

  afterAll(() => rmSync(root, { recursive: true, force: true }));

  test('all of them ran on both sides', () => {
    expect(node.size).toBeGreaterThan(150);
    const files = (of: Results) => [...new Set([...of.keys()].map((name) => name.split(':')[0]))].sort();
    const all = readdirSync(join(cases, 'fs')).map((name) => name.replace('.test.ts', ''));
    // Node has no extended attributes.
    expect(files(node)).toEqual(all.filter((name) => name !== 'xattr'));
    expect(files(here)).toEqual(files(node));
    expect([...node].filter(([name]) => name.endsWith('(the file)'))).toEqual([]);
  });

  test(
    'the page says of each whether Node and a volume do the same',
    async () => {
      const table = tableOf(readFileSync(join(repository, page), 'utf8'));
      const compared = [...node.keys()].filter((name) => table.get(name)?.verdict !== 'not compared');
      const isWrong = (results: Results) => (name: string) => verdictOf(results.get(name)) !== table.get(name)?.verdict;
      let wrong = compared.filter(isWrong(here));
      if (wrong.length > 0) {
        // One case is a race: it changes a file while the watcher takes its first look. Others have time limits.
        const again = await resultsOfVolume(root);
        wrong = wrong.filter(isWrong(again));
      }
      const told = (name: string) =>
        `${name} | the page: ${table.get(name)?.verdict} | ${here.get(name)?.message ?? ''}`;
      expect(wrong.map(told)).toEqual([]);
      // The page would say nothing if Node did not pass them. Some have time limits, which a busy machine breaks.
      const failed = compared.filter((name) => !isPassed(node.get(name)));
      expect(failed.length > 10 ? failed : []).toEqual([]);
      expect([...table.keys()].filter((name) => !node.has(name))).toEqual([]);
    },
    timeoutMs,
  );

  test('each difference has a reason, and the page counts them', () => {
    const markdown = readFileSync(join(repository, page), 'utf8');
    const table = [...tableOf(markdown)];
    const count = (of: Verdict) => table.filter(([, { verdict }]) => verdict === of).length;
    expect(markdown.replaceAll('\n', ' ')).toContain(
      `Of ${table.length} cases ${count('same')} are the same, ${count('differs')} differ, ${count('missing')} need what is ` +
        `missing, and ${count('not compared')} are not compared.`,
    );
    expect(table.filter(([, { verdict, why }]) => (verdict === 'same') !== (why === ''))).toEqual([]);
  });
});
