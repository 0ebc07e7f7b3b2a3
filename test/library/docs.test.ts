import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { transform } from '@swc/core';
import * as errors from '@verfs/errors';
import { apiReference } from '../../scripts/api-reference.mjs';
import { commonjs } from '../../scripts/commonjs.mjs';
import { run } from '../harness/command.ts';
import { detachBelow } from '../harness/mounts.ts';
import { repository, sandboxPrefix } from '../harness/sandbox.ts';

const fromRoot = (path: string) => readFileSync(join(repository, path), 'utf8');

/** A block of code and, where it follows, what it prints. */
interface Block {
  readonly language: string;
  readonly code: string;
  readonly output: string | undefined;
}

function blocksOf(markdown: string): Block[] {
  const pattern = /```(js|cjs|ts)\n([\s\S]*?)```(?:\s*```text\n([\s\S]*?)```)?/g;
  return [...markdown.matchAll(pattern)].map(([, language = '', code = '', output]) => ({ language, code, output }));
}

let root: string;
let number = 0;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), sandboxPrefix));
});

afterEach(async () => {
  await detachBelow(root);
  rmSync(root, { recursive: true, force: true });
});

/** Runs code as a module of its own, which finds the library as an installed one does. */
async function runCode(code: string, language: string) {
  number += 1;
  const directory = join(repository, 'target', 'docs-test', `${process.pid}-${number}`);
  const file = join(directory, language === 'cjs' ? 'example.cjs' : 'example.mjs');
  mkdirSync(directory, { recursive: true });
  try {
    const compiled = await transform(code, {
      jsc: { target: 'es2022', parser: { syntax: 'typescript' } },
      isModule: language !== 'cjs',
    });
    writeFileSync(file, compiled.code);
    return await run(process.execPath, ['--no-warnings', file], { cwd: root });
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const guide = blocksOf(fromRoot('docs/EMBEDDING.md'));

test('the guide has examples', () => {
  expect(guide.length).toBeGreaterThan(5);
  expect(guide.every(({ output }) => output !== undefined)).toBe(true);
});

test.each(guide.map((block, at) => [at + 1, block] as const))(
  'block %i of docs/EMBEDDING.md prints what it says',
  async (_, block) => {
    const said = await runCode(block.code, block.language);
    expect(said).toMatchObject({ code: 0, stderr: '', stdout: expect.anything() });
    expect(said.stdout.trimEnd()).toBe(block.output?.trimEnd());
  },
);

describe('examples in the documentation of the code', () => {
  const sources = [
    'packages/sdk/src/volume.ts',
    'packages/sdk/src/vault.ts',
    'packages/sdk/src/snapshots.ts',
    'packages/fs/src/index.ts',
  ];
  const examples = sources.flatMap((source) => {
    const comments = fromRoot(source).match(/\/\*\*[\s\S]*?\*\//g) ?? [];
    const blocks = comments.flatMap((comment) => blocksOf(comment.replaceAll(/^ *\* ?/gm, '')));
    return blocks.map(({ code }) => [source, code] as const);
  });

  test('there are some', () => {
    expect(examples.length).toBeGreaterThan(1);
  });

  test.each(examples)('%s: runs as it stands', async (_, example) => {
    mkdirSync(join(root, 'mnt'));
    const opens = example.includes('Volume.open')
      ? ''
      : "await Volume.create('/srv/volume');\nawait using volume = await Volume.open('/srv/volume');\n";
    const code = `import { Volume } from 'verfs';\n${opens}${example}`
      .replaceAll('/srv/volume', join(root, 'volume'))
      .replaceAll('/mnt/volume', join(root, 'mnt'));
    expect(await runCode(code, 'ts')).toMatchObject({ code: 0, stderr: '' });
    expect(existsSync(join(root, 'volume'))).toBe(true);
  });
});

test('types for require are whole: they compile without the sources', async () => {
  const directory = join(repository, 'target', 'docs-test', `types-${process.pid}`);
  mkdirSync(directory, { recursive: true });
  try {
    const file = join(directory, 'use.cts');
    const lines = [
      "import verfs = require('verfs');",
      'export async function use(volume: verfs.Volume, error: unknown): Promise<string | undefined> {',
      "  const opened = await verfs.Volume.open('path');",
      "  const text: string = await opened.fs.promises.readFile('/file', 'utf8');",
      '  // @ts-expect-error: functions that block are missing',
      "  volume.fs.readFileSync('/file');",
      '  return error instanceof verfs.VolumeLockedError ? error.path : text;',
      '}',
    ];
    writeFileSync(file, lines.join('\n'));
    const options = ['--ignoreConfig', '--noEmit', '--module', 'nodenext', '--target', 'es2023', '--strict'];
    const more = ['--lib', 'es2023,esnext.disposable', '--types', 'node', file];
    const compiler = join(repository, 'node_modules/.bin/tsc');
    expect(await run(compiler, [...options, ...more])).toMatchObject({ code: 0, stdout: '' });
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('docs/API.md and the library for require are made from what is there: npm run generate', () => {
  expect(fromRoot('docs/API.md')).toBe(apiReference());
  const { code, types } = commonjs(errors);
  expect(fromRoot('packages/sdk/commonjs/index.cjs')).toBe(code);
  expect(fromRoot('packages/sdk/commonjs/index.d.cts')).toBe(types);
});
