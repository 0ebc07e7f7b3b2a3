/** PostgreSQL keeps what it committed, and its tables are whole, through kill -9 of the server and of the daemon. */
import type { ChildProcess } from 'node:child_process';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { killGroup } from '../harness/command.ts';
import { mountForAll } from '../harness/others.ts';
import { Postgres } from '../harness/postgres.ts';
import { Sandbox, until } from '../harness/sandbox.ts';

const minutes = 60_000;

let sandbox: Sandbox;
let daemon: number;
let postgres: Postgres;
const clients: ChildProcess[] = [];

beforeEach(async () => {
  sandbox = new Sandbox();
  daemon = await mountForAll(sandbox);
  postgres = new Postgres(sandbox);
});

afterEach(async () => {
  for (const client of clients.splice(0)) {
    killGroup(client, 'SIGKILL');
  }
  await postgres[Symbol.asyncDispose]();
  await sandbox[Symbol.asyncDispose]();
});

/** What pgbench moves between accounts, tellers and branches adds up to the same. */
const sums = `SELECT count(DISTINCT sum) FROM (
    SELECT sum(abalance) FROM pgbench_accounts UNION ALL SELECT sum(bbalance) FROM pgbench_branches
    UNION ALL SELECT sum(tbalance) FROM pgbench_tellers UNION ALL SELECT coalesce(sum(delta), 0) FROM pgbench_history
  ) AS sums;
  SELECT count(*) FROM pgbench_accounts;`;

/** Every page of every table and index is as PostgreSQL made it. */
async function check(): Promise<void> {
  expect(await postgres.sql(sums)).toBe('1\n100000');
  await postgres.run('pg_amcheck', ['--install-missing', '--heapallindexed', 'postgres']);
}

/** The whole database as text, without the key that each dump makes up. */
async function dump(): Promise<string> {
  return (await postgres.run('pg_dump', ['postgres'])).replaceAll(/^\\(un)?restrict .*$/gm, '');
}

/** Commits rows to the table `acknowledged`, one after another; how many were told to be committed. */
function startCommits(): () => number {
  const rows = Array.from({ length: 100_000 }, (_, row) => `INSERT INTO acknowledged VALUES (${row}) RETURNING row;`);
  let output = '';
  const take = (text: string) => {
    output += text;
  };
  clients.push(postgres.start('psql', ['-qAtX', 'postgres'], rows.join('\n'), take));
  return () => output.split('\n').length - 1;
}

test(
  'pgbench, and recovery after kill -9',
  async () => {
    await postgres.create();
    await postgres.run('pgbench', ['-i', '-q', '-s', '1', 'postgres']);
    await postgres.run('pgbench', ['-n', '-c', '4', '-j', '2', '-t', '100', 'postgres']);
    expect(await postgres.sql('SELECT count(*) FROM pgbench_history;')).toBe('400');
    await check();

    await postgres.sql('CREATE TABLE acknowledged (row integer PRIMARY KEY);');
    let transactions = 0;
    for (const kill of [() => postgres.kill(), () => killDaemon()]) {
      clients.push(postgres.start('pgbench', ['-n', '-c', '3', '-T', '100', 'postgres'], '', () => undefined));
      const acknowledged = startCommits();
      await until('transactions were committed', () => acknowledged() >= 100, minutes);
      await kill();
      const told = acknowledged();
      await postgres.open();
      const rows = Number(await postgres.sql('SELECT count(*) FROM acknowledged;'));
      expect(rows).toBeGreaterThanOrEqual(told);
      expect(await postgres.sql('SELECT max(row) + 1 FROM acknowledged;')).toBe(String(rows));
      const history = Number(await postgres.sql('SELECT count(*) FROM pgbench_history;'));
      expect(history).toBeGreaterThan(transactions);
      transactions = history;
      await check();
      await postgres.sql('TRUNCATE acknowledged;');
    }

    const before = await dump();
    await postgres.close();
    expect(await postgres.run('pg_checksums', ['--check', '-D', sandbox.inMount('data')])).toMatch(/Bad checksums: +0/);
    await sandbox.unmount();
    await mountForAll(sandbox);
    await postgres.open();
    expect(await dump()).toBe(before);
    await postgres.close();
  },
  5 * minutes,
);

/** The daemon goes first, the server with it, and the volume is mounted again. */
async function killDaemon(): Promise<void> {
  await sandbox.kill(daemon);
  await postgres.kill();
  daemon = await mountForAll(sandbox);
}
