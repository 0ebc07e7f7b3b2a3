import * as nodeFs from 'node:fs';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { Volume } from 'verfs';
import { sandboxPrefix } from '../harness/sandbox.ts';
import type { Subject } from './node-fs/cases.ts';
import { outcomeOf } from './node-fs/compare.ts';

type Operation = (subject: Subject) => Promise<unknown>;

/** A few names, so that operations meet. */
const name = fc
  .array(fc.constantFrom('a', 'b', 'c', '.'), { minLength: 1, maxLength: 3 })
  .map((names) => names.join('/'));
const text = fc.string({ maxLength: 20 });
const position = fc.nat(40);

const operation: fc.Arbitrary<{ readonly label: string; readonly run: Operation }> = fc.oneof(
  one('writeFile', name, text, ({ p, at }, path, content) => p.writeFile(at(path), content)),
  one('appendFile', name, text, ({ p, at }, path, content) => p.appendFile(at(path), content)),
  one('readFile', name, text, ({ p, at }, path) => p.readFile(at(path), 'utf8')),
  one('truncate', name, position, ({ p, at }, path, size) => p.truncate(at(path), size)),
  one('mkdir', name, fc.boolean(), async ({ p, at }, path, recursive) =>
    (await p.mkdir(at(path), { recursive }))?.replace(at(), ''),
  ),
  one('rmdir', name, text, ({ p, at }, path) => p.rmdir(at(path))),
  one('unlink', name, text, ({ p, at }, path) => p.unlink(at(path))),
  one('rm', name, fc.boolean(), ({ p, at }, path, force) => p.rm(at(path), { force, recursive: true })),
  one('rename', name, name, ({ p, at }, from, to) => p.rename(at(from), at(to))),
  one('link', name, name, ({ p, at }, from, to) => p.link(at(from), at(to))),
  one('symlink', name, name, ({ p, at }, target, path) => p.symlink(target, at(path))),
  one('readlink', name, text, ({ p, at }, path) => p.readlink(at(path))),
  one('readdir', name, text, async ({ p, at }, path) => (await p.readdir(at(path))).sort()),
  one('copyFile', name, name, async ({ p, at }, from, to) => {
    // Node opens, and removes, the target before it finds that the source is a directory: docs/EMBEDDING.md.
    const isDirectory = await p.stat(at(from)).then(
      (stats) => (stats.mode & nodeFs.constants.S_IFMT) === nodeFs.constants.S_IFDIR,
      () => false,
    );
    return isDirectory ? undefined : await p.copyFile(at(from), at(to));
  }),
  one('chmod', name, fc.integer({ min: 0, max: 0o777 }), ({ p, at }, path, mode) => p.chmod(at(path), mode)),
  one('stat', name, text, async ({ p, at }, path) => {
    const { mode, size, nlink, isDirectory } = Object.assign(await p.stat(at(path)), { isDirectory: undefined });
    void isDirectory;
    const isDir = (mode & nodeFs.constants.S_IFMT) === nodeFs.constants.S_IFDIR;
    return { mode, size: isDir ? undefined : size, nlink: isDir ? undefined : nlink };
  }),
  one('realpath', name, text, async ({ p, at }, path) =>
    (await p.realpath(at(path))).replace(await p.realpath(at()), ''),
  ),
  one('write at', name, fc.tuple(position, text), async ({ p, at }, path, [where, content]) => {
    const handle = await p.open(at(path), 'r+');
    try {
      return (await handle.write(content, where)).bytesWritten;
    } finally {
      await handle.close();
    }
  }),
);

function one<A, B>(
  label: string,
  first: fc.Arbitrary<A>,
  second: fc.Arbitrary<B>,
  run: (subject: Subject, a: A, b: B) => Promise<unknown>,
) {
  return fc.tuple(first, second).map(([a, b]) => ({
    label: `${label} ${JSON.stringify([a, b])}`,
    run: (subject: Subject) => run(subject, a, b),
  }));
}

let root: string;
let volume: Volume;
let number = 0;

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), sandboxPrefix));
  await Volume.create(join(root, 'volume'));
  volume = await Volume.open(join(root, 'volume'));
});

afterAll(async () => {
  await volume.close();
  rmSync(root, { recursive: true, force: true });
});

test('random operations have the same outcome as with fs of Node', async () => {
  const property = fc.asyncProperty(fc.array(operation, { minLength: 5, maxLength: 40 }), async (operations) => {
    number += 1;
    const base = join(root, `run-${number}`);
    const at = (path?: string) => (path === undefined ? base : `${base}/${path}`);
    nodeFs.mkdirSync(base);
    await volume.fs.promises.mkdir(base, { recursive: true });
    const subjects: readonly [Subject, Subject] = [
      { fs: nodeFs, p: nodeFs.promises, at },
      { fs: volume.fs, p: volume.fs.promises, at },
    ];
    for (const { label, run } of operations) {
      const [ofNode, here] = [await outcomeOf(run, subjects[0]), await outcomeOf(run, subjects[1])];
      expect({ label, ...here }).toEqual({ label, ...ofNode });
    }
    await nodeFs.promises.rm(base, { recursive: true });
  });
  await fc.assert(property, { numRuns: 200 });
});
