import * as nodeFs from 'node:fs';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Volume } from 'verfs';
import { Sandbox } from '../harness/sandbox.ts';
import { cases, type Subject } from './node-fs/cases.ts';
import { outcomeOf } from './node-fs/compare.ts';

describe('the fs of a volume that a daemon serves', () => {
  let sandbox: Sandbox;
  let volume: Awaited<ReturnType<typeof Volume.connect>>;
  let number = 0;

  beforeAll(async () => {
    sandbox = new Sandbox();
    await sandbox.mount();
    volume = await Volume.connect(sandbox.volume);
  });

  afterAll(async () => {
    await volume.close();
    await sandbox[Symbol.asyncDispose]();
  });

  test.each(Object.entries(cases))('is as that of Node: %s', async (_, run) => {
    number += 1;
    const base = join(sandbox.root, `case-${number}`);
    mkdirSync(base);
    await volume.fs.promises.mkdir(base, { recursive: true });
    const at = (name?: string) => (name === undefined ? base : `${base}/${name}`);
    const ofNode: Subject = { fs: nodeFs, p: nodeFs.promises, at };
    const ofVolume: Subject = { fs: volume.fs, p: volume.fs.promises, at };
    const node = await outcomeOf(run, ofNode);
    expect(await outcomeOf(run, ofVolume)).toEqual(node);
  });

  test('has no path out of the volume', async () => {
    const { promises: p } = volume.fs;
    writeFileSync(join(sandbox.root, 'outside'), 'secret');
    symlinkSync(join(sandbox.root, 'outside'), sandbox.inMount('absolute'));
    symlinkSync('../outside', sandbox.inMount('relative'));
    symlinkSync(sandbox.root, sandbox.inMount('directory'));
    for (const path of ['/absolute', '/relative', '/../outside', '/directory/outside', '..', '/relative/']) {
      await expect(p.readFile(path)).rejects.toMatchObject({ code: expect.stringMatching(/^(ENOENT|EISDIR)$/) });
    }
    // A link that begins with a slash begins at the root of the volume.
    await p.writeFile('/target', 'inside');
    await p.symlink('/target', '/link');
    expect(await p.readFile('/link', 'utf8')).toBe('inside');
    expect(await p.realpath('/link')).toBe('/target');
  });

  test('is seen in the mount', async () => {
    await volume.fs.promises.writeFile('/through', 'the mount');
    expect(nodeFs.readFileSync(sandbox.inMount('through'), 'utf8')).toBe('the mount');
  });

  test('ends with the mount, and never goes to what is below it', async () => {
    const { promises: p } = volume.fs;
    await p.writeFile('/before', 'x');
    await volume.unmount();
    await expect(p.writeFile('/after', 'x')).rejects.toMatchObject({ syscall: 'open' });
    expect(nodeFs.existsSync(sandbox.inMount('after'))).toBe(false);
  });
});
