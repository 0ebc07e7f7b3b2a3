import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { defaultConfig } from '@verfs/config';
import { NativeVolume } from '@verfs/native';
import { findOrCreate } from '../src/daemon/find-or-create.ts';
import { daemonRequest } from '../src/daemon/request.ts';

let directory: string;
let volume: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'verfs-test-found-'));
  volume = join(directory, 'a', 'b', 'volume');
});

afterEach(() => rmSync(directory, { recursive: true, force: true }));

const request = (whenMissing: 'fail' | 'create') =>
  daemonRequest(defaultConfig(), { volume, mountpoint: '/nowhere', whenMissing, configFile: null });

test('a volume that was made for a mount that failed is removed, with the directories above it', async () => {
  const { how, undo } = await findOrCreate(request('create'));
  expect({ how, isThere: existsSync(volume) }).toEqual({ how: 'created', isThere: true });
  await undo();
  expect(readdirSync(directory)).toEqual([]);
});

test('it stays when another process has begun to use it', async () => {
  const first = await findOrCreate(request('create'));
  const second = await findOrCreate(request('create'));
  expect([first.how, second.how]).toEqual(['created', 'found']);
  const opened = await NativeVolume.open(volume, {});
  try {
    await first.undo();
    await second.undo();
    expect(readdirSync(join(directory, 'a', 'b'))).toEqual(['volume']);
    expect(await NativeVolume.inspect(volume)).toMatchObject({ uuid: first.info.uuid, holderPid: process.pid });
    await opened.sync();
  } finally {
    await opened.close();
  }
});

test('what stands beside it stays', async () => {
  const { undo } = await findOrCreate(request('create'));
  mkdirSync(join(directory, 'a', 'mine'));
  await undo();
  expect(readdirSync(join(directory, 'a'))).toEqual(['mine']);
});

test('those who make it at the same time have the same one', async () => {
  const found = await Promise.all([1, 2, 3, 4].map(() => findOrCreate(request('create'))));
  expect(new Set(found.map(({ info }) => info.uuid)).size).toBe(1);
  expect(found.filter(({ how }) => how === 'created').length).toBe(1);
});

test('nothing is made where that is not wanted', async () => {
  await expect(findOrCreate(request('fail'))).rejects.toMatchObject({ code: 'VERFS_E_NOT_A_VOLUME' });
  expect(readdirSync(directory)).toEqual([]);
});
