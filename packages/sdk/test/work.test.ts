import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from '@jest/globals';
import { Work } from '../src/work.ts';

/** A work that ends when its signal fires, or `end` is called. */
function begun(signal?: AbortSignal) {
  let end: (result: string) => void = () => undefined;
  let stopped = 0;
  let looks = 0;
  const run = (stop: AbortSignal) =>
    new Promise<string>((resolve, reject) => {
      end = resolve;
      const onStop = async () => {
        await sleep(20);
        stopped += 1;
        reject(new Error('stopped'));
      };
      stop.addEventListener('abort', onStop, { once: true });
    });
  const look = () => {
    looks += 1;
    return looks;
  };
  const work = new Work({ run, look, options: { signal } });
  return { work, end: (result: string) => end(result), stopped: () => stopped, looks: () => looks };
}

test('a work is a promise of its result, and looks only for those who follow it', async () => {
  const { work, end, looks } = begun();
  end('done');
  expect(await work).toBe('done');
  expect(await work.then((result) => `${result}!`)).toBe('done!');
  expect(await Promise.all([work, work.finally(() => undefined)])).toEqual(['done', 'done']);
  expect(looks()).toBe(0);
});

test('a work tells how far it is until it ends', async () => {
  const { work, end } = begun();
  const seen: number[] = [];
  for await (const progress of work) {
    seen.push(progress);
    if (seen.length === 3) {
      end('done');
    }
  }
  expect(seen).toEqual([1, 2, 3]);
  expect(await work).toBe('done');
});

test('who leaves the loop ends the work, and waits for its end; nothing is left unhandled', async () => {
  const unhandled: unknown[] = [];
  const note = (error: unknown) => unhandled.push(error);
  process.on('unhandledRejection', note);
  const { work, stopped } = begun();
  for await (const _ of work) {
    break;
  }
  expect(stopped()).toBe(1);
  await sleep(20);
  process.off('unhandledRejection', note);
  expect(unhandled).toEqual([]);
  await expect(work).rejects.toThrow('stopped');
});

test('the signal of the caller ends it, for those who follow it as well', async () => {
  const abort = new AbortController();
  const { work, stopped } = begun(abort.signal);
  const follow = async () => {
    for await (const _ of work) {
      abort.abort();
    }
  };
  await expect(follow()).rejects.toThrow('stopped');
  await expect(work.catch(() => 'caught')).resolves.toBe('caught');
  expect(stopped()).toBe(1);
});

test('what cannot be looked at is no failure of the work', async () => {
  const done = once(new EventTarget(), 'never', { signal: AbortSignal.timeout(300) }).catch(() => 'done');
  const work = new Work<number, unknown>({
    run: () => done,
    look: () => Promise.reject(new Error('closed')),
    options: {},
  });
  for await (const _ of work) {
    throw new Error('there is nothing to tell');
  }
  expect(await work).toBe('done');
});
