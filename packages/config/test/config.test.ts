import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import {
  configKeyNames,
  configMarkdown,
  defaultConfig,
  defaultFiles,
  durationUnits,
  formatQuantity,
  loadConfig,
  nearestKey,
  parseQuantity,
  type Surroundings,
  sizeUnits,
} from '@verfs/config';
import { VerfsError } from '@verfs/errors';

let home: string;
let user: Surroundings;

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'verfs-test-config-'));
  user = { uid: 1000, home };
});

afterEach(() => rmSync(home, { recursive: true, force: true }));

function write(text: string, file = join(home, 'config.toml')): string {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
  return file;
}

function codeOf(act: () => unknown): string {
  try {
    act();
    return 'nothing was thrown';
  } catch (error) {
    return error instanceof VerfsError ? error.code : String(error);
  }
}

test('quantities are written in full: 7 days are no week, and a mebibyte is no M', () => {
  expect(formatQuantity(7 * 86_400_000_000, durationUnits)).toBe('7d');
  expect(formatQuantity(60_000_000, durationUnits)).toBe('1min');
  expect(formatQuantity(2 ** 20, sizeUnits)).toBe('1MiB');
});

describe('the defaults', () => {
  test('are valid, and paths in them are absolute', () => {
    const config = defaultConfig(user);
    expect(Object.keys(config)).toEqual(configKeyNames);
    expect(config).toMatchObject({
      'volume.path': join(home, '.local/share/verfs/default'),
      'daemon.log_directory': join(home, '.local/state/verfs'),
      'group.interval': 500,
      'memory.dirty_limit': 32 * 1024 ** 2,
      'daemon.shutdown_target': 10_000,
    });
  });

  test('follow XDG_DATA_HOME and XDG_STATE_HOME', () => {
    expect(defaultConfig({ ...user, dataHome: '/data', stateHome: '/state' })).toMatchObject({
      'volume.path': '/data/verfs/default',
      'daemon.log_directory': '/state/verfs',
    });
  });

  test('are in docs/CONFIG.md, which is made from the table', () => {
    expect(readFileSync(new URL('../../../docs/CONFIG.md', import.meta.url), 'utf8')).toBe(configMarkdown());
  });
});

describe('the file', () => {
  test('is looked for where the docs say', () => {
    expect(defaultFiles(user)).toEqual([join(home, '.config/verfs/config.toml')]);
    expect(defaultFiles({ ...user, configHome: '/c' })).toEqual(['/c/verfs/config.toml']);
    expect(defaultFiles({ ...user, uid: 0 })).toEqual([
      '/etc/verfs/config.toml',
      join(home, '.config/verfs/config.toml'),
    ]);
  });

  test('wins over defaults, and overrides win over it', () => {
    const file = write(
      '[volume]\npath = "~/v"\n[group]\nblocks = 10\ninterval = "1.5s"\n[memory]\nchunk_cache = "1 GiB"\n',
      join(home, '.config/verfs/config.toml'),
    );
    const { config, file: used } = loadConfig(undefined, { 'group.blocks': 20 }, user);
    expect(used).toBe(file);
    expect(config).toMatchObject({
      'volume.path': join(home, 'v'),
      'group.blocks': 20,
      'group.interval': 1500,
      'memory.chunk_cache': 1024 ** 3,
    });
  });

  test.each([
    ['nothing = 1', 'VERFS_E_CONFIG_KEY'],
    ['[group]\nblocks = 1.5', 'VERFS_E_CONFIG_TYPE'],
    ['[group]\nblocks = true', 'VERFS_E_CONFIG_TYPE'],
    ['[group]\nblocks = 99999999', 'VERFS_E_CONFIG_TYPE'],
    ['[group]\ninterval = "0ms"', 'VERFS_E_CONFIG_TYPE'],
    ['[group]\ninterval = 1979-05-27', 'VERFS_E_CONFIG_TYPE'],
    ['[group]\ninterval = 500', 'VERFS_E_CONFIG_UNIT'],
    ['[memory]\nmemtable = "16"', 'VERFS_E_CONFIG_UNIT'],
    ['[memory]\nmemtable = "16 mib"', 'VERFS_E_CONFIG_UNIT'],
    ['[memory]\nmemtable = "lots"', 'VERFS_E_CONFIG_TYPE'],
    ['[mount]\noptions = "ro"', 'VERFS_E_CONFIG_TYPE'],
    ['[mount]\noptions = [1]', 'VERFS_E_CONFIG_TYPE'],
    ['[volume]\npath = ""', 'VERFS_E_CONFIG_TYPE'],
    ['[volume', 'VERFS_E_CONFIG_FILE'],
  ])('%j gives %s', (text, code) => {
    const file = write(text);
    expect(codeOf(() => loadConfig(file, {}, user))).toBe(code);
  });

  test('is named in messages, with the key', () => {
    const file = write('[memory]\nchunk_cash = "1MiB"\n');
    expect(() => loadConfig(file, {}, user)).toThrow(
      `${file}: there is no key memory.chunk_cash; did you mean memory.chunk_cache?`,
    );
  });

  test('must be there when it is named', () => {
    expect(codeOf(() => loadConfig(join(home, 'absent'), {}, user))).toBe('VERFS_E_CONFIG_FILE');
    expect(codeOf(() => loadConfig(home, {}, user))).toBe('VERFS_E_CONFIG_FILE');
  });
});

test('a key that was nearly hit is suggested, and others are not', () => {
  const nearest = (name: string) => nearestKey(name, configKeyNames);
  expect(nearest('group.block')).toBe('group.blocks');
  expect(nearest('blocks')).toBe('group.blocks');
  expect(nearest('memory.memtables')).toBe('memory.memtable');
  expect(nearest('something.else.entirely')).toBeUndefined();
});

test.each([
  ['64MiB', sizeUnits, 64 * 1024 ** 2],
  ['1KiB', sizeUnits, 1024],
  ['2GiB', sizeUnits, 2 ** 31],
  ['1TiB', sizeUnits, 2 ** 40],
  ['3GB', sizeUnits, 3e9],
  ['1TB', sizeUnits, 1e12],
  ['1.5 kB', sizeUnits, 1500],
  ['0B', sizeUnits, 0],
  ['64', sizeUnits, 'unit'],
  ['64 Mib', sizeUnits, 'unit'],
  ['-1MiB', sizeUnits, 'number'],
  ['', sizeUnits, 'number'],
  ['1e3B', sizeUnits, 'number'],
  ['500us', durationUnits, 500],
  ['2min', durationUnits, 120_000_000],
  ['1h', durationUnits, 3_600_000_000],
  ['7d', durationUnits, 604_800_000_000],
  ['3ms', durationUnits, 3000],
  ['0.5s', durationUnits, 500_000],
  ['15m', durationUnits, 900_000_000],
  ['2w', durationUnits, 1_209_600_000_000],
  ['10G', sizeUnits, 10 * 2 ** 30],
  ['1.5M', sizeUnits, 1.5 * 2 ** 20],
])('the quantity %j is %j %s', (text, units, expected) => {
  expect(parseQuantity(text, units)).toBe(expected);
  if (typeof expected === 'number') {
    expect(parseQuantity(formatQuantity(expected, units), units)).toBe(expected);
  }
});
