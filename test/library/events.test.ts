import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { Volume, type VolumeEvent } from 'verfs';
import { until } from '../harness/sandbox.ts';
import { begin, type Subject, ways } from './ways.ts';

describe.each(ways)('a volume that is %s', (way) => {
  let subject: Subject;
  let told: VolumeEvent[];
  const types = () => told.map(({ type }) => type);
  const isTold = (type: VolumeEvent['type'], count = 1) =>
    until(`${type} is told`, () => types().filter((one) => one === type).length >= count);

  beforeEach(async () => {
    subject = await begin(way);
    told = [];
  });

  afterEach(async () => {
    await subject[Symbol.asyncDispose]();
  });

  test('tells what is done to it before the call returns that does it', async () => {
    const { volume, root } = subject;
    const names: string[] = [];
    volume.on('event', (event) => told.push(event));
    volume.on('snapshotCreated', ({ snapshot }) => names.push(snapshot.name));
    await volume.snapshots.create('one');
    expect(told).toMatchObject([{ type: 'snapshotCreated', snapshot: { name: 'one' } }]);
    expect(names).toEqual(['one']);
    await volume.snapshots.delete('one');
    expect(types()).toEqual(['snapshotCreated', 'snapshotDeleted']);
    told.length = 0;
    const key = await volume.vault.create('password', { directory: root });
    await volume.vault.unlock('password', key);
    await volume.vault.lock();
    expect(types()).toEqual(['vaultUnlocked', 'vaultLocked']);
    told.length = 0;
    await volume.gc();
    expect(types().filter((type) => type !== 'gcBegun')).toEqual(['gcDone']);
    await volume.close();
    await isTold('closed');
    expect(types().at(-1)).toBe('closed');
  });

  test('tells what others did, by a mount or by themselves', async () => {
    const { volume } = subject;
    volume.on('event', (event) => told.push(event));
    await volume.snapshots.create('one');
    await volume.fs.promises.mkdir('/.snapshots/two');
    await isTold('snapshotCreated', 2);
    await volume.fs.promises.rmdir('/.snapshots/two');
    await isTold('snapshotDeleted');
    if (way === 'connected') {
      await using other = await Volume.connect(subject.path);
      await other.snapshots.create('three');
      await isTold('snapshotCreated', 3);
    }
  });

  test('tells nobody who listens no more', async () => {
    const { volume } = subject;
    const listener = (event: VolumeEvent) => told.push(event);
    volume.on('event', listener);
    await volume.snapshots.create('one');
    volume.off('event', listener);
    await volume.snapshots.create('two');
    await sleep(700);
    expect(types()).toEqual(['snapshotCreated']);
    // And again, from then on.
    volume.on('event', listener);
    await volume.snapshots.create('three');
    expect(told).toMatchObject([{ snapshot: { name: 'one' } }, { snapshot: { name: 'three' } }]);
  });
});

test('a volume that is mounted by this process, or by a daemon, tells of its end', async () => {
  const told: string[] = [];
  await using opened = await begin('opened');
  const { volume, root } = opened;
  if (!(volume instanceof Volume)) {
    throw new TypeError('it is opened');
  }
  const { mkdirSync } = await import('node:fs');
  mkdirSync(`${root}/mnt`);
  volume.on('mounted', ({ mountpoint }) => told.push(mountpoint));
  for (const type of ['unmounted', 'closed'] as const) {
    volume.on(type, () => told.push(type));
  }
  await volume.mount(`${root}/mnt`);
  await volume.unmount();
  await until('it is told', () => told.length === 2);
  await volume.mount(`${root}/mnt`);
  await volume.close();
  expect(told).toEqual([`${root}/mnt`, 'unmounted', `${root}/mnt`, 'unmounted', 'closed']);

  await using served = await begin('connected');
  const heard: string[] = [];
  served.volume.on('event', ({ type }) => heard.push(type));
  await using other = await Volume.connect(served.path);
  await served.volume.stats();
  await served.volume.snapshots.list();
  await other.unmount();
  await until('the end is told', () => heard.includes('closed'));
  expect(heard).toEqual(['unmounted', 'closed']);
});
