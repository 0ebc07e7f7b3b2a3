import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { CancelledError, type GcProgress, Volume } from 'verfs';
import { until } from '../harness/sandbox.ts';
import { begin, type Subject, ways } from './ways.ts';

const noise = (seed: number, bytes: number) => {
  let state = seed;
  const words = new Uint32Array(bytes / 4).map(() => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state;
  });
  return Buffer.from(words.buffer);
};

describe.each(ways)('long work on a volume that is %s', (way) => {
  let subject: Subject;
  const unhandled: unknown[] = [];
  const note = (error: unknown) => unhandled.push(error);

  beforeEach(async () => {
    subject = await begin(way);
    process.on('unhandledRejection', note);
    const { promises: p } = subject.volume.fs;
    for (let number = 0; number < 8; number += 1) {
      await p.writeFile(`/file-${number}`, noise(number + 1, 1 << 20));
    }
    await subject.volume.sync();
  });

  afterEach(async () => {
    process.off('unhandledRejection', note);
    await subject[Symbol.asyncDispose]();
    expect(unhandled).toEqual([]);
  });

  test('tells how far it is, stops where its loop is left, and goes on', async () => {
    const { volume } = subject;
    let seen = 0;
    // A quarter of it in a second: it is not done when the loop is left.
    for await (const { tally, totalBytes } of volume.scrub({ rateBytes: 2 << 20 })) {
      expect(tally.bytes).toBeLessThanOrEqual(totalBytes);
      seen += 1;
      if (tally.bytes > 0) {
        break;
      }
    }
    expect(seen).toBeGreaterThan(0);
    await until('it has stopped', async () => !(await volume.scrubStatus()).active);
    expect(await volume.scrubStatus()).toMatchObject({ interrupted: true });
    const rest = volume.scrub();
    expect(await rest).toMatchObject({ end: 'done', tally: { damaged: 0 } });
    expect((await rest).tally.bytes).toBeGreaterThanOrEqual(8 << 20);
  });

  test('ends with its signal', async () => {
    const { volume } = subject;
    const late = { signal: AbortSignal.abort() };
    await expect(volume.gc(late)).rejects.toBeInstanceOf(CancelledError);
    await expect(volume.scrub(late)).rejects.toBeInstanceOf(CancelledError);
    const stop = new AbortController();
    const work = volume.scrub({ rateBytes: 512 << 10, signal: stop.signal });
    const follow = async () => {
      for await (const _ of work) {
        stop.abort();
      }
    };
    await expect(follow()).rejects.toBeInstanceOf(CancelledError);
    await until('it has stopped', async () => !(await volume.scrubStatus()).active);
    expect(await volume.gcStatus()).toMatchObject({ collections: 0 });
  });

  test('collects garbage and tells of it', async () => {
    const { volume } = subject;
    const { promises: p } = volume.fs;
    for (let number = 0; number < 8; number += 2) {
      await p.rm(`/file-${number}`);
    }
    const work = volume.gc();
    const seen: GcProgress[] = [];
    for await (const progress of work) {
      seen.push(progress);
    }
    const done = await work;
    // The kernel of a mount may let go of what was removed a little later.
    let { reclaimedBytes: all } = done;
    await until('what was removed is back', async () => {
      all += all > 2 << 20 ? 0 : (await volume.gc()).reclaimedBytes;
      return all > 2 << 20;
    });
    expect(seen.every(({ reclaimedBytes }) => reclaimedBytes <= done.reclaimedBytes)).toBe(true);
    expect((await p.readFile('/file-1')).equals(noise(2, 1 << 20))).toBe(true);
  });

  test('a stream that is left ends, and one that is received tells how far it is', async () => {
    const { volume } = subject;
    await volume.snapshots.create('one');
    for await (const piece of volume.snapshots.send('one')) {
      expect(piece.length).toBeGreaterThan(0);
      break;
    }
    // The daemon, or the engine, is free again.
    const whole = await buffer(volume.snapshots.send('one'));
    await using target = await begin('opened');
    const { Readable } = await import('node:stream');
    const work = target.volume.snapshots.receive(Readable.from([whole], { objectMode: false }));
    const seen: number[] = [];
    for await (const bytes of work) {
      seen.push(bytes);
    }
    expect(await work).toMatchObject({ name: 'one' });
    expect(seen.length).toBeGreaterThan(0);
    expect(Math.max(...seen)).toBeLessThanOrEqual(whole.length);
    expect((await target.volume.fs.promises.readFile('/file-3')).equals(noise(4, 1 << 20))).toBe(true);
    // What is left in the middle is kept, and nothing of it is seen.
    await using cut = await begin('opened');
    const slow = async function* () {
      yield whole.subarray(0, whole.length / 2);
      await new Promise((resolve) => setTimeout(resolve, 5000).unref());
      yield whole.subarray(whole.length / 2);
    };
    for await (const bytes of cut.volume.snapshots.receive(Readable.from(slow(), { objectMode: false }))) {
      if (bytes > 0) {
        break;
      }
    }
    expect(await cut.volume.snapshots.list()).toEqual([]);
    expect(await cut.volume.fs.promises.readdir('/')).toEqual([]);
  });

  test('clones, restorations and rollbacks tell how far they are', async () => {
    const { volume } = subject;
    await volume.snapshots.create('one');
    const work = volume.snapshots.clone('one', '/copy');
    for await (const { inodes } of work) {
      expect(inodes).toBeGreaterThanOrEqual(0);
    }
    await work;
    await volume.fs.promises.rm('/file-1');
    await volume.snapshots.restore('one', 'file-1');
    expect((await volume.fs.promises.stat('/file-1')).size).toBe(1 << 20);
    await volume.snapshots.rollback('one');
    expect(await volume.fs.promises.readdir('/')).not.toContain('copy');
  });
});

test('a collection stops when the last who waited for it leaves, and the next one completes', async () => {
  await using subject = await begin('opened');
  await subject.volume.close();
  const mebibyte = 1 << 20;
  const options = { gcBackground: false, gcBusyRateBytes: mebibyte, packTargetBytes: 16 * mebibyte };
  await using volume = await Volume.open(subject.path, options);
  const { promises: p } = volume.fs;
  for (let number = 0; number < 32; number += 1) {
    await p.writeFile(`/file-${number}`, noise(number + 1, mebibyte));
  }
  await volume.sync();
  for (let number = 0; number < 32; number += 2) {
    await p.rm(`/file-${number}`);
  }
  // While the volume is in use it copies a mebibyte in a second, and has some sixteen to copy.
  const busy = setInterval(() => void p.writeFile('/busy', String(Math.random())), 200);
  try {
    const [first, second] = [volume.gc(), volume.gc()];
    for await (const { movedBytes } of first) {
      if (movedBytes > 0) {
        break;
      }
    }
    expect(await volume.gcStatus()).toMatchObject({ active: true, collections: 0 });
    for await (const _ of second) {
      break;
    }
    await until('it has stopped', async () => !(await volume.gcStatus()).active);
  } finally {
    clearInterval(busy);
  }
  const { movedBytes, collections } = await volume.gcStatus();
  expect(collections).toBe(1);
  expect(movedBytes).toBeLessThan(12 * mebibyte);
  expect((await volume.gc()).reclaimedBytes).toBeGreaterThan(mebibyte);
  expect((await p.readFile('/file-31')).equals(noise(32, mebibyte))).toBe(true);
});
