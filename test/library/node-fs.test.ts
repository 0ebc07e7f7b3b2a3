import * as nodeFs from 'node:fs';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Volume } from 'verfs';
import { sandboxPrefix } from '../harness/sandbox.ts';
import { cases, type Subject } from './node-fs/cases.ts';
import { outcomeOf } from './node-fs/compare.ts';

/** Behaviours of Node on ext4 that are others here, and what they are here: docs/EMBEDDING.md lists them. */
const differences: Readonly<Record<string, string>> = {};

describe.each(['022', '077'])("Node's fs and the fs of a volume, with umask %s", (umask) => {
  let root: string;
  let volume: Volume;
  let number = 0;

  beforeAll(async () => {
    process.umask(Number.parseInt(umask, 8));
    root = mkdtempSync(join(tmpdir(), sandboxPrefix));
    await Volume.create(join(root, 'volume'));
    volume = await Volume.open(join(root, 'volume'));
  });

  afterAll(async () => {
    await volume.close();
    rmSync(root, { recursive: true, force: true });
  });

  /** A new directory on both sides, of the same path. */
  async function subjects(): Promise<readonly [Subject, Subject]> {
    number += 1;
    const base = join(root, `case-${number}`);
    nodeFs.mkdirSync(base);
    await volume.fs.promises.mkdir(base, { recursive: true });
    const at = (name?: string) => (name === undefined ? base : `${base}/${name}`);
    return [
      { fs: nodeFs, p: nodeFs.promises, at },
      { fs: volume.fs, p: volume.fs.promises, at },
    ];
  }

  test.each(Object.entries(cases))('%s', async (name, run) => {
    const [ofNode, ofVolume] = await subjects();
    const [node, here] = [await outcomeOf(run, ofNode), await outcomeOf(run, ofVolume)];
    if (differences[name] === undefined) {
      expect(here).toEqual(node);
    } else {
      expect(here).not.toEqual(node);
    }
  });
});
