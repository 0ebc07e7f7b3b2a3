import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { stageTeller } from '../src/commands/fsck.ts';
import { recordsText, startProgress, transferText, withProgress } from '../src/progress.ts';

const ordinary = { json: false };
let written: string[];
const { isTTY } = process.stderr;

beforeEach(() => {
  written = [];
  jest.useFakeTimers();
  jest.spyOn(process.stderr, 'write').mockImplementation((text) => {
    written.push(String(text));
    return true;
  });
});

afterEach(() => {
  jest.useRealTimers();
  jest.restoreAllMocks();
  process.stderr.isTTY = isTTY;
});

const onTerminal = (is: boolean) => {
  process.stderr.isTTY = is;
};

describe('what takes more than two seconds', () => {
  test('is told in one line on a terminal, which is written anew, and stays when it ends', () => {
    onTerminal(true);
    const progress = startProgress('copying', ordinary);
    progress.set('3 of 9');
    jest.advanceTimersByTime(1900);
    expect(written).toEqual([]);
    jest.advanceTimersByTime(200);
    expect(written).toEqual(['\r\u001b[Kcopying: 3 of 9, 0:02']);
    progress.set('6 of 9');
    jest.advanceTimersByTime(500);
    expect(written.at(-1)).toContain('\r\u001b[Kcopying: 6 of 9, 0:0');
    progress.end();
    expect(written.at(-1)).toBe('\r\u001b[Kcopying: 6 of 9, 0:03\n');
    const lines = written.length;
    jest.advanceTimersByTime(60_000);
    expect(written).toHaveLength(lines);
  });

  test('is told in plain lines from time to time where there is no terminal', () => {
    onTerminal(false);
    const progress = startProgress('copying', ordinary);
    jest.advanceTimersByTime(25_000);
    progress.end();
    expect(written).toEqual(['copying: 0:10\n', 'copying: 0:20\n']);
  });

  test.each([[{ json: true }], [{ json: false, quiet: true }]])('is not told with %j', (args) => {
    onTerminal(true);
    const progress = startProgress('copying', args);
    jest.advanceTimersByTime(60_000);
    progress.end();
    expect(written).toEqual([]);
  });
});

test('what takes less is not told, also when it fails', async () => {
  onTerminal(true);
  await expect(withProgress('copying', ordinary, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
  jest.advanceTimersByTime(60_000);
  expect(written).toEqual([]);
});

test('a transfer has its rate, and of how much it is and the time that is left where the whole is known', () => {
  expect(transferText(10 << 20, 2)).toBe('10.0 MiB, 5.0 MiB/s');
  expect(transferText(10 << 20, 2, 40 << 20)).toBe('10.0 MiB of 40.0 MiB, 5.0 MiB/s, 0:06 left');
  expect(transferText(40 << 20, 8, 40 << 20)).toBe('40.0 MiB of 40.0 MiB, 5.0 MiB/s, 0:00 left');
  expect(transferText(0, 2, 40 << 20)).toBe('0 B of 40.0 MiB, 0 B/s');
  expect(transferText(1 << 20, 1, 8 * 2 ** 30)).toBe('1.0 MiB of 8.0 GiB, 1.0 MiB/s, 2:16:31 left');
});

test('records have their rate, and a share and the time that is left as long as the guess holds', () => {
  expect(recordsText(2000, 2, 8000)).toBe('about 25 %, 2000 records, 1000/s, 0:06 left');
  expect(recordsText(9000, 2, 8000)).toBe('9000 records, 4500/s');
  expect(recordsText(0, 2, 8000)).toBe('0 records, 0/s');
});

test('each stage of a check has a rate of its own, and a repair says which look it is', () => {
  let now = 0;
  const tell = stageTeller(() => now);
  now = 4000;
  expect(tell({ stage: 'checking', round: 1, records: 0, expected: 800 })).toBe('checking: 0 records, 0/s');
  now = 6000;
  const half = { stage: 'checking', round: 1, records: 400, expected: 800 } as const;
  expect(tell(half)).toBe('checking: about 50 %, 400 records, 200/s, 0:02 left');
  expect(tell({ stage: 'mending', round: 0, records: 0, expected: 3 })).toBe('mending: 0 records, 0/s');
  now = 8000;
  expect(tell({ stage: 'mending', round: 0, records: 2, expected: 3 })).toMatch(
    /^mending: about 66 %, 2 records, 1\/s/,
  );
  expect(tell({ stage: 'recovering', round: 0, records: 0, expected: 0 })).toBe('recovering');
  expect(tell({ ...half, round: 2 })).toMatch(/^checking once more \(2\): /);
});
