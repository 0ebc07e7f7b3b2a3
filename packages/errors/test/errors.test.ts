import { readFileSync } from 'node:fs';
import { describe, expect, test } from '@jest/globals';
import {
  classOf,
  errorCodes,
  errorsMarkdown,
  errorTable,
  InternalError,
  isErrorRecord,
  MountpointMissingError,
  restoreError,
  toVerfsError,
  VerfsError,
} from '@verfs/errors';

const fromRoot = (path: string) => readFileSync(new URL(`../../../${path}`, import.meta.url), 'utf8');

describe('the table', () => {
  test('gives every code an exit code of its own, which a shell can tell from a signal', () => {
    const exitCodes = errorCodes.map((code) => errorTable[code].exitCode);
    expect(new Set(exitCodes).size).toBe(errorCodes.length);
    expect(exitCodes.every((code) => code >= 1 && code <= 125)).toBe(true);
  });

  test('never changes the exit code of a code', () => {
    const stable = {
      VERFS_E_INTERNAL: 1,
      VERFS_E_USAGE: 2,
      VERFS_E_CONFIG_KEY: 10,
      VERFS_E_CONFIG_TYPE: 11,
      VERFS_E_CONFIG_UNIT: 12,
      VERFS_E_CONFIG_FILE: 13,
      VERFS_E_MOUNTPOINT_MISSING: 20,
      VERFS_E_MOUNTPOINT_NOT_DIR: 21,
      VERFS_E_MOUNTPOINT_NOT_EMPTY: 22,
      VERFS_E_ALREADY_MOUNTED: 23,
      VERFS_E_MOUNTPOINT_STALE: 24,
      VERFS_E_NOT_MOUNTED: 25,
      VERFS_E_NOT_A_VOLUME: 30,
      VERFS_E_VOLUME_EXISTS: 31,
      VERFS_E_VOLUME_LOCKED: 32,
      VERFS_E_VOLUME_READ_ONLY: 33,
      VERFS_E_VOLUME_FULL: 34,
      VERFS_E_FORMAT_NEWER: 35,
      VERFS_E_SUPERBLOCK_DAMAGED: 36,
      VERFS_E_DAMAGED: 37,
      VERFS_E_METADATA_OLDER: 38,
      VERFS_E_METADATA_MISSING: 39,
      VERFS_E_NO_FUSE_DEVICE: 40,
      VERFS_E_NO_FUSERMOUNT: 41,
      VERFS_E_PERMISSION: 42,
      VERFS_E_SERVICE: 43,
      VERFS_E_FILE_LIMIT: 44,
      VERFS_E_IO: 50,
      VERFS_E_CLOSED: 51,
      VERFS_E_CANCELLED: 52,
      VERFS_E_DAEMON_DIED: 53,
      VERFS_E_TIMEOUT: 54,
      VERFS_E_SNAPSHOT_NOT_FOUND: 60,
      VERFS_E_SNAPSHOT_EXISTS: 61,
      VERFS_E_SNAPSHOT_NAME: 62,
      VERFS_E_SNAPSHOT_HELD: 63,
      VERFS_E_STREAM_DAMAGED: 64,
      VERFS_E_STREAM_MISMATCH: 65,
      VERFS_E_PATH_NOT_FOUND: 66,
      VERFS_E_PATH_EXISTS: 67,
      VERFS_E_VAULT_ABSENT: 70,
      VERFS_E_VAULT_EXISTS: 71,
      VERFS_E_VAULT_UNLOCKED: 72,
      VERFS_E_VAULT_SECRET: 73,
      VERFS_E_VAULT_RATE_LIMITED: 74,
      VERFS_E_VAULT_DAMAGED: 75,
      VERFS_E_VAULT_KEY_FILE: 76,
      VERFS_E_VAULT_LOCKED: 77,
      VERFS_E_FSCK_FOUND: 80,
      VERFS_E_FSCK_MENDED: 81,
      VERFS_E_FSCK_LEFT: 82,
      VERFS_E_DOCTOR: 83,
      VERFS_E_SOURCE_MISSING: 84,
      VERFS_E_SOURCE_CHANGED: 85,
      VERFS_E_TARGET_EXISTS: 86,
      VERFS_E_TARGET_FULL: 87,
      VERFS_E_COPY_INCOMPLETE: 88,
      VERFS_E_COPY_DIFFERS: 89,
      VERFS_E_FREEZE_BROKEN: 90,
    };
    expect(Object.fromEntries(errorCodes.map((code) => [code, errorTable[code].exitCode]))).toEqual(stable);
  });

  test('has every code of the engine, and docs/ERRORS.md is made from it', () => {
    const list = /ERROR_CODES: &\[&str\] = &\[([^\]]+)\]/.exec(fromRoot('crates/engine/src/error.rs'))?.[1] ?? '';
    const engine = [...list.matchAll(/"(VERFS_E_\w+)"/g)].map((match) => match[1]);
    expect(engine.length).toBeGreaterThan(10);
    expect(engine.filter((code) => !errorCodes.includes(code as never))).toEqual([]);
    expect(fromRoot('docs/ERRORS.md')).toBe(errorsMarkdown());
  });

  test('has every code that the addon makes itself', () => {
    const made = [...fromRoot('bindings/node/src/failure.rs').matchAll(/"(VERFS_E_\w+)"/g)].map((match) => match[1]);
    expect(made.length).toBeGreaterThan(2);
    expect(made.filter((code) => !errorCodes.includes(code as never))).toEqual([]);
  });
});

describe('an error', () => {
  test('says what, which path and what to do, in one line', () => {
    const cause = new Error('ENOENT');
    const error = new MountpointMissingError("The mountpoint /a b's does\n not exist", { path: "/a b's", cause });
    expect(error.message).toBe("The mountpoint /a b's does not exist. Create it: `mkdir -p '/a b'\\''s'`.");
    expect(error).toMatchObject({ code: 'VERFS_E_MOUNTPOINT_MISSING', exitCode: 20, path: "/a b's", cause });
    expect([error instanceof VerfsError, error instanceof MountpointMissingError, error.name]).toEqual([
      true,
      true,
      'MountpointMissingError',
    ]);
  });

  test('has a class of its own for every code', () => {
    const names = errorCodes.map((code) => new (classOf(code))('x').name);
    expect(new Set(names).size).toBe(errorCodes.length);
    for (const code of errorCodes) {
      expect(new (classOf(code))('x').code).toBe(code);
    }
  });

  test('crosses a boundary with its class, and its message unchanged', () => {
    const record: unknown = JSON.parse(JSON.stringify(new MountpointMissingError('No', { path: '/m' })));
    expect(isErrorRecord(record)).toBe(true);
    const restored = restoreError(record as Parameters<typeof restoreError>[0]);
    expect(restored).toBeInstanceOf(MountpointMissingError);
    expect(restored.toJSON()).toEqual(record);
  });

  test('is made of whatever was thrown', () => {
    const bug = new TypeError('x is undefined');
    expect(toVerfsError(bug)).toBeInstanceOf(InternalError);
    expect(toVerfsError(bug)).toMatchObject({ cause: bug, message: expect.stringContaining('TypeError') });
    const ours = new MountpointMissingError('No');
    expect(toVerfsError(ours)).toBe(ours);
    expect(toVerfsError('text').message).toContain('text');
    expect(toVerfsError({ code: 'VERFS_E_IO', message: 'm' })).toMatchObject({ code: 'VERFS_E_IO', message: 'm' });
  });
});
