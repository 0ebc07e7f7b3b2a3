/** Settings: what they are, and what a mounted volume takes of them. */
import { readFileSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { errorTable } from '@verfs/errors';
import { isAlive, Sandbox, until } from '../harness/sandbox.ts';

let sandbox: Sandbox;

beforeEach(() => {
  sandbox = new Sandbox();
});

afterEach(() => sandbox[Symbol.asyncDispose]());

const configure = (lines: string): string => {
  const file = sandbox.path('config.toml');
  writeFileSync(file, lines);
  return file;
};

const levelsIn = (file: string) =>
  new Set(
    readFileSync(file, 'utf8')
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { level: string }).level),
  );

test('they are shown as the next mount has them, with those that differ from the defaults', async () => {
  const config = configure('[memory]\nchunk_cache = "128M"\n');
  const shown = await sandbox.json<{ file: string; config: object }>(['config', 'show', 'memory', '--config', config]);
  expect(shown).toMatchObject({ file: config, config: { 'memory.chunk_cache': 128 * 2 ** 20 } });
  expect(Object.keys(shown.config).every((key) => key.startsWith('memory.'))).toBe(true);
  const { stdout } = await sandbox.verfs(['config', 'show', '--config', config]);
  expect(stdout).toMatch(/^memory\.chunk_cache +128MiB +changed$/m);
  expect(stdout).toMatch(/^group\.interval +500ms$/m);
  expect(await sandbox.verfs(['config', 'show', 'memory.chunk_cash'])).toMatchObject({
    code: errorTable.VERFS_E_CONFIG_KEY.exitCode,
    stderr: expect.stringContaining('did you mean memory.chunk_cache?'),
  });
});

test('a mounted volume takes another log level and another cache, by command and by SIGHUP, and goes on', async () => {
  const config = configure('[daemon]\nlog_level = "warn"\n');
  const { pid, logFile } = await sandbox.mount(['--config', config]);
  expect(readFileSync(logFile, 'utf8')).toBe('');
  const set = ['config', 'set', '--volume', sandbox.mountpoint];
  expect(await sandbox.json([...set, 'daemon.log_level', 'trace'])).toEqual({
    settings: { 'daemon.log_level': 'trace', 'memory.chunk_cache': 40 * 2 ** 20 },
  });
  await sandbox.json(['snapshot', 'create', 'one', '--volume', sandbox.mountpoint]);
  expect(await sandbox.json([...set, 'memory.chunk_cache', '8MiB'])).toMatchObject({
    settings: { 'memory.chunk_cache': 8 * 2 ** 20 },
  });
  configure('[daemon]\nlog_level = "info"\n[memory]\nchunk_cache = "1MiB"\n');
  process.kill(pid, 'SIGHUP');
  await until('it says what changed', () =>
    readFileSync(logFile, 'utf8').includes(
      'read the configuration again; changed: memory.chunk_cache, daemon.log_level',
    ),
  );
  configure('[daemon]\nlog_level = "loud"\n');
  process.kill(pid, 'SIGHUP');
  await until('it says what is wrong', () =>
    readFileSync(logFile, 'utf8').includes('the configuration stays as it is'),
  );
  const refused = await sandbox.verfs(['config', 'reload', '--volume', sandbox.mountpoint]);
  expect(refused).toMatchObject({ code: errorTable.VERFS_E_CONFIG_TYPE.exitCode });
  configure('');
  expect(await sandbox.json(['config', 'reload', '--volume', sandbox.mountpoint])).toEqual({
    changed: ['memory.chunk_cache'],
  });
  expect(isAlive(pid)).toBe(true);
  writeFileSync(sandbox.inMount('file'), 'it goes on');
  expect(levelsIn(logFile).has('error')).toBe(true);
  await sandbox.unmount();
});

test('what takes effect with the next mount only, or is wrong, is refused and changes nothing', async () => {
  await sandbox.mount();
  const set = (...words: string[]) => sandbox.verfs(['config', 'set', '--volume', sandbox.mountpoint, ...words]);
  expect(await set('group.interval', '1s')).toMatchObject({
    code: errorTable.VERFS_E_USAGE.exitCode,
    stderr: expect.stringContaining('takes effect with the next mount only'),
  });
  expect(await set('memory.chunk_cache', '64')).toMatchObject({ code: errorTable.VERFS_E_CONFIG_UNIT.exitCode });
  expect(await set('memory.chunk_cache', '1B')).toMatchObject({ code: errorTable.VERFS_E_CONFIG_TYPE.exitCode });
  expect(await set('log_level', 'debug')).toMatchObject({ code: errorTable.VERFS_E_CONFIG_KEY.exitCode });
  await sandbox.unmount();
  expect(await set('daemon.log_level', 'debug')).toMatchObject({ code: errorTable.VERFS_E_NOT_MOUNTED.exitCode });
});
