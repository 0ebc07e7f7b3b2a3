import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { type LogOptions, openLog } from '@verfs/log';

let directory: string;
let options: LogOptions;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'verfs-test-log-'));
  const file = join(directory, 'deep', 'v.log');
  options = { level: 'info', file, maxBytes: 1024 ** 2, maxFiles: 3, stderr: 'silent' };
});

afterEach(() => rmSync(directory, { recursive: true, force: true }));

const records = (file: string) =>
  readFileSync(file, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line): unknown => JSON.parse(line));

test('records of TypeScript and of Rust are one stream of JSON lines, from the level on', async () => {
  const stream = openLog(options);
  const log = stream.for('daemon');
  log.info('one');
  log.debug('not shown');
  stream.write({ time: 1_700_000_000_123, level: 'warn', target: 'verfs_engine::volume', message: 'two' });
  stream.write({ time: 1, level: 'trace', target: 'verfs_vfs', message: 'not shown' });
  log.error('three');
  await stream.close();
  expect(records(options.file)).toEqual([
    { time: expect.stringMatching(/^\d{4}-.*Z$/), level: 'info', target: 'daemon', message: 'one' },
    { time: '2023-11-14T22:13:20.123Z', level: 'warn', target: 'verfs_engine::volume', message: 'two' },
    { time: expect.any(String), level: 'error', target: 'daemon', message: 'three' },
  ]);
});

test('the file is for its owner only', async () => {
  const stream = openLog(options);
  stream.for('daemon').info('x');
  await stream.close();
  expect(statSync(options.file).mode & 0o777).toBe(0o600);
  expect(statSync(join(directory, 'deep')).mode & 0o777).toBe(0o700);
});

test('a file that is full is replaced, and only as many are kept as asked', async () => {
  const stream = openLog({ ...options, maxBytes: 20_000 });
  const log = stream.for('daemon');
  for (let number = 0; number < 2000; number += 1) {
    // Each is another one, in letters.
    log.info(
      `record ${Number(number)
        .toString(26)
        .replaceAll(/\d/g, (digit) => 'qrstuvwxyz'[Number(digit)] ?? '')} number ${number} ${'.'.repeat(40)}`,
    );
    await turn();
  }
  await stream.close();
  const files = readdirSync(join(directory, 'deep'));
  expect(files.length).toBe(3);
  for (const name of files) {
    expect(statSync(join(directory, 'deep', name)).size).toBeLessThan(40_000);
  }
  expect(JSON.stringify(records(options.file).at(-1))).toContain('number 1999');
});

test('a flood of records that say the same is cut down, and says by how much', async () => {
  const stream = openLog(options);
  const at = (time: number, message: string) =>
    stream.write({ time, level: 'error', target: 'verfs_vfs::damage', message });
  for (let number = 0; number < 5000; number += 1) {
    at(1_700_000_000_000 + number, `chunk ${number} of pack 00ab${number} is damaged`);
  }
  at(1_700_000_000_500, 'something else');
  at(1_700_000_020_000, 'chunk 1 of pack 7 is damaged');
  await stream.close();
  const messages = (records(options.file) as { message: string }[]).map(({ message }) => message);
  expect(messages.length).toBe(103);
  expect(messages.slice(99)).toEqual([
    'chunk 99 of pack 00ab99 is damaged',
    'something else',
    '(4900 records like this one were left out before it) chunk 4999 of pack 00ab4999 is damaged',
    'chunk 1 of pack 7 is damaged',
  ]);
});

test('what was left out is told at the end', async () => {
  const stream = openLog(options);
  for (let number = 0; number < 150; number += 1) {
    stream.for('daemon').warn(`again ${number}`);
  }
  await stream.close();
  const last = records(options.file).at(-1);
  expect(last).toMatchObject({ message: '(50 records like this one were left out before it) again 149' });
});

test('a file that cannot be written is told, and so is a directory that cannot be made', () => {
  const told = { code: 'VERFS_E_IO', message: expect.stringContaining('daemon.log_directory') };
  const inTheWay = join(directory, 'file');
  writeFileSync(inTheWay, '');
  expect(() => openLog({ ...options, file: join(inTheWay, 'v.log') })).toThrow(expect.objectContaining(told));
  mkdirSync(options.file, { recursive: true });
  expect(() => openLog(options)).toThrow(expect.objectContaining(told));
});

test('a full disk keeps nobody from working', async () => {
  const stream = openLog({ ...options, file: '/dev/full' });
  stream.for('daemon').info('lost');
  await stream.close();
});
