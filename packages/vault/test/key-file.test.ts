import { execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { createKeyFile, encodeSecrets, keyFileIn, readKeyFile, replaceKeyFile, wipe } from '../src/index.ts';

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'verfs-key-'));
});

afterEach(() => rmSync(directory, { recursive: true }));

describe('a key file', () => {
  test('is for its owner only, new each time, and never overwritten', () => {
    const path = keyFileIn(directory);
    const made = createKeyFile(path);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readFileSync(path)).toEqual(made.content);
    expect(() => createKeyFile(path)).toThrow(expect.objectContaining({ code: 'VERFS_E_VAULT_KEY_FILE', path }));
    expect(readFileSync(path)).toEqual(made.content);
    const other = createKeyFile(`${path}.new`);
    expect(other.content).not.toEqual(made.content);
    replaceKeyFile(other.path, path);
    expect(readKeyFile(path)).toEqual(other.content);
    other.undo();
    made.undo();
    expect(() => statSync(path)).toThrow();
  });

  test('is not made behind a symlink', () => {
    symlinkSync(join(directory, 'elsewhere'), keyFileIn(directory));
    expect(() => createKeyFile(keyFileIn(directory))).toThrow(
      expect.objectContaining({ code: 'VERFS_E_VAULT_KEY_FILE' }),
    );
    expect(() => statSync(join(directory, 'elsewhere'))).toThrow();
  });

  test('that others may read, that is missing or too long is refused', () => {
    const path = keyFileIn(directory);
    const refused = expect.objectContaining({ code: 'VERFS_E_VAULT_KEY_FILE', path });
    expect(() => readKeyFile(path)).toThrow(refused);
    createKeyFile(path);
    chmodSync(path, 0o640);
    expect(() => readKeyFile(path)).toThrow(refused);
    chmodSync(path, 0o400);
    expect(readKeyFile(path).length).toBeGreaterThan(64);
    chmodSync(path, 0o600);
    writeFileSync(path, Buffer.alloc(5000));
    expect(() => readKeyFile(path)).toThrow(refused);
  });
});

describe('what is named as a key file', () => {
  const refused = (path: string) => expect.objectContaining({ code: 'VERFS_E_VAULT_KEY_FILE', path });

  test('may be a pipe, of which all is read', () => {
    const path = keyFileIn(directory);
    const { content } = createKeyFile(path);
    const [pipe, file] = [join(directory, 'pipe'), path];
    execFileSync('mkfifo', [pipe]);
    // In two pieces, as a program that decrypts it may write it.
    const writer = spawn('sh', ['-c', `(head -c 20 ${file}; sleep 0.3; tail -c +21 ${file}) > ${pipe}`]);
    try {
      expect(readKeyFile(pipe)).toEqual(content);
    } finally {
      writer.kill('SIGKILL');
    }
  });

  test('is refused when it is a directory, a device, empty, without end, or a pipe without a writer', () => {
    execFileSync('mkfifo', [join(directory, 'pipe')]);
    writeFileSync(join(directory, 'empty'), '', { mode: 0o600 });
    writeFileSync(join(directory, 'long'), '', { mode: 0o600 });
    truncateSync(join(directory, 'long'), 2 ** 30);
    for (const path of [
      directory,
      '/dev/zero',
      '/dev/null',
      ...['pipe', 'empty', 'long'].map((name) => join(directory, name)),
    ]) {
      expect(() => readKeyFile(path)).toThrow(refused(path));
    }
  });
});

describe('secrets', () => {
  test('go to the engine as parts behind their lengths, and are wiped', () => {
    const secret = { password: Uint8Array.from([1, 2, 3]), keyFile: Uint8Array.from([4]) };
    expect([...encodeSecrets([secret, secret])]).toEqual([
      ...[3, 0, 0, 0, 1, 2, 3, 1, 0, 0, 0, 4],
      ...[3, 0, 0, 0, 1, 2, 3, 1, 0, 0, 0, 4],
    ]);
    wipe(secret);
    expect([...secret.password, ...secret.keyFile]).toEqual([0, 0, 0, 0]);
  });
});
