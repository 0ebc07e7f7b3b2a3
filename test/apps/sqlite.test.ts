/** SQLite with a write-ahead log: shared memory, locks and fsync of several processes on one file. */
import { type ChildProcess, spawn } from 'node:child_process';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { killGroup, run, shell } from '../harness/command.ts';
import { mountForAll } from '../harness/others.ts';
import { Sandbox, until } from '../harness/sandbox.ts';

let sandbox: Sandbox;
let daemon: number;

beforeEach(async () => {
  sandbox = new Sandbox();
  daemon = await mountForAll(sandbox);
});

afterEach(() => sandbox[Symbol.asyncDispose]());

/** Runs statements; what they gave, a row a line. */
async function sql(statements: string): Promise<string> {
  const args = ['-cmd', '.timeout 30000', '-bail', sandbox.inMount('db')];
  const { code, stdout, stderr } = await run('sqlite3', args, { input: statements, env: sandbox.env });
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return stdout.trim();
}

/** Each row of `entries` is one of a transfer of two: its amounts add up to nothing. */
const schema = `PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
  CREATE TABLE entries (id INTEGER PRIMARY KEY, writer INTEGER, step INTEGER, amount INTEGER, padding BLOB);
  CREATE INDEX by_writer ON entries (writer, step);`;

const transfer = (writer: number, step: number) =>
  `BEGIN IMMEDIATE;
   INSERT INTO entries (writer, step, amount, padding) VALUES (${writer}, ${step}, ${step}, randomblob(500));
   INSERT INTO entries (writer, step, amount, padding) VALUES (${writer}, ${step}, -${step}, randomblob(500));
   COMMIT;`;

const steps = (count: number) => Array.from({ length: count }, (_, step) => step);

test('several writers and readers at a time lose nothing and see no half of a transaction', async () => {
  expect(await sql(schema)).toBe('wal');
  const count = 60;
  const writers = [1, 2, 3].map((writer) =>
    sql(
      `PRAGMA synchronous = FULL; ${steps(count)
        .map((step) => transfer(writer, step))
        .join('\n')}`,
    ),
  );
  const readers = [1, 2].map(() =>
    sql(
      steps(count)
        .map(() => 'SELECT sum(amount), count(*) % 2, count(DISTINCT step) >= 0 FROM entries;')
        .join('\n'),
    ),
  );
  await Promise.all(writers);
  for (const seen of await Promise.all(readers)) {
    expect(new Set(seen.split('\n').map((row) => row.replace(/^\|/, '0|')))).toEqual(new Set(['0|0|1']));
  }
  const state =
    'PRAGMA integrity_check; SELECT writer, count(*), sum(amount), sum(length(padding)) FROM entries GROUP BY writer;';
  const expected = ['ok', ...[1, 2, 3].map((writer) => `${writer}|${count * 2}|0|${count * 1000}`)].join('\n');
  expect(await sql(state)).toBe(expected);
  expect(await sql('PRAGMA wal_checkpoint(TRUNCATE); VACUUM; PRAGMA integrity_check;')).toBe('0|0|0\nok');
  await sandbox.unmount();
  await mountForAll(sandbox);
  expect(await sql(state)).toBe(expected);
  expect(await shell('ls', { cwd: sandbox.mountpoint })).toBe('db\n');
});

/** A writer that goes on until it is killed, and prints the number of each transfer when it is committed. */
function startWriter(): { child: ChildProcess; committed(): number } {
  const script = steps(100_000).map((step) => `${transfer(1, step)} SELECT 'committed', ${step};\n`);
  const child = spawn('stdbuf', ['-oL', 'sqlite3', '-cmd', '.timeout 30000', sandbox.inMount('db')], {
    detached: true,
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  child.stdin?.on('error', () => undefined).end(`PRAGMA synchronous = FULL; ${script.join('')}`);
  let output = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  return { child, committed: () => output.split('\n').filter((line) => line.startsWith('committed|')).length };
}

test.each([
  ['the writer', () => undefined],
  ['the daemon', () => sandbox.kill(daemon)],
])('what was committed is there after kill -9 of %s', async (_, kill) => {
  await sql(schema);
  const writer = startWriter();
  try {
    await until('the writer has committed', () => writer.committed() >= 100, 60_000);
    await kill();
  } finally {
    killGroup(writer.child, 'SIGKILL');
  }
  await until('the writer is gone', () => writer.child.exitCode !== null || writer.child.signalCode !== null);
  const committed = writer.committed();
  await mountAgain();
  const [integrity, found = '0'] = (
    await sql('PRAGMA integrity_check; SELECT count(DISTINCT step) FROM entries;')
  ).split('\n');
  expect(integrity).toBe('ok');
  expect(Number(found)).toBeGreaterThanOrEqual(committed);
  expect(await sql('SELECT count(*), sum(amount), max(step) + 1 FROM entries;')).toBe(
    `${Number(found) * 2}|0|${found}`,
  );
  expect(await sql(`${transfer(2, 1)} PRAGMA integrity_check; SELECT count(*) FROM entries WHERE writer = 2;`)).toBe(
    'ok\n2',
  );
});

/** Mounts the volume, unless its daemon still lives. */
async function mountAgain(): Promise<void> {
  const outcome = await sandbox.verfs(['status', sandbox.mountpoint]);
  if (outcome.code !== 0) {
    await mountForAll(sandbox);
  }
}
