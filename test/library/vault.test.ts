/** The vault of a volume that this process has open: without a mount, and with one. */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { VaultSecretError } from '@verfs/errors';
import { Volume } from 'verfs';
import { detachBelow, mountpointsBelow } from '../harness/mounts.ts';
import { sandboxPrefix } from '../harness/sandbox.ts';

const password = 'a password of the library';

describe('the vault of a volume in this process', () => {
  let root: string;
  let path: string;
  let mountpoint: string;
  let volume: Volume;

  beforeEach(async () => {
    root = mkdtempSync(join(tmpdir(), sandboxPrefix));
    path = join(root, 'volume');
    mountpoint = mkdtempSync(join(root, 'mnt-'));
    await Volume.create(path);
    volume = await Volume.open(path);
  });

  afterEach(async () => {
    await volume.close();
    await detachBelow(root);
    rmSync(root, { recursive: true, force: true });
  });

  const state = async () => (await volume.vault.status()).state;
  const code = (what: string) => ({ code: `VERFS_E_${what}` });

  /** `volume.fs` has no locked vault. */
  async function expectNone(): Promise<void> {
    const { promises: fs } = volume.fs;
    expect(await fs.readdir('/')).not.toContain('.vault');
    await expect(fs.readFile('/.vault/letter')).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(fs.mkdir('/.vault')).rejects.toMatchObject({ code: 'EPERM' });
    await expect(fs.writeFile('/.vault', 'x')).rejects.toMatchObject({ code: 'EPERM' });
  }

  test('is opened and locked without a mount, and is in the mount that comes', async () => {
    expect(await volume.vault.status()).toMatchObject({ state: 'absent', rekey: 'idle' });
    const keyFile = await volume.vault.create(password, { directory: root });
    expect(keyFile).toBe(join(root, 'verfsnext.vault.key'));
    await expect(volume.vault.create(password, { directory: mountpoint })).rejects.toMatchObject(code('VAULT_EXISTS'));
    expect(await state()).toBe('locked');
    await expectNone();

    const bytes = Buffer.from(password);
    await volume.vault.unlock(bytes, keyFile);
    expect(bytes.every((byte) => byte === 0)).toBe(true);
    expect(await volume.vault.status()).toMatchObject({
      state: 'unlocked',
      compressed: true,
      memoryKib: 65_536,
      idleMs: expect.any(Number),
    });
    await expect(volume.vault.unlock(password, keyFile)).rejects.toMatchObject(code('VAULT_UNLOCKED'));
    expect(await volume.fs.promises.readdir('/')).toContain('.vault');
    await volume.vault.lock();
    expect(await volume.vault.status()).not.toHaveProperty('idleMs', expect.any(Number));
    await volume.vault.lock({ graceMs: 0 });
    expect(await state()).toBe('locked');

    await volume.vault.unlock(password, keyFile);
    await volume.mount(mountpoint);
    const letter = join(mountpoint, '.vault', 'letter');
    writeFileSync(letter, 'secret');
    await volume.snapshots.create('then');
    writeFileSync(letter, 'changed');
    expect(await volume.fs.promises.readFile('/.vault/letter', 'utf8')).toBe('changed');
    await volume.snapshots.rollback('then');
    expect(readFileSync(letter, 'utf8')).toBe('secret');
    await volume.unmount();
    // It goes with the mount that showed it.
    expect(await state()).toBe('locked');
    expect(mountpointsBelow(root)).toEqual([]);

    await volume.close();
    await expect(volume.vault.status()).rejects.toMatchObject(code('CLOSED'));
    await expect(volume.vault.unlock(password, keyFile)).rejects.toMatchObject(code('CLOSED'));
    volume = await Volume.open(path);
    expect(await state()).toBe('locked');
    await volume.vault.unlock(password, keyFile);
    await volume.mount(mountpoint);
    expect(readFileSync(letter, 'utf8')).toBe('secret');
  });

  test('is opened by its password and its key file, and by nothing else', async () => {
    const other = join(root, 'other');
    mkdirSync(other);
    await expect(volume.vault.unlock(password, join(root, 'none'))).rejects.toMatchObject(code('VAULT_KEY_FILE'));
    let otherKey: string;
    {
      await Volume.create(join(root, 'other-volume'));
      await using another = await Volume.open(join(root, 'other-volume'));
      otherKey = await another.vault.create(password, { directory: other });
    }
    await expect(volume.vault.unlock(password, otherKey)).rejects.toMatchObject(code('VAULT_ABSENT'));
    await expect(volume.vault.lock()).resolves.toBeUndefined();
    const keyFile = await volume.vault.create(password, { directory: root, compressed: false });
    expect(await volume.vault.status()).toMatchObject({ state: 'locked', compressed: false });

    const failureOf = (unlock: Promise<void>) =>
      unlock.then(
        () => undefined,
        (error: unknown) => error,
      );
    const wrongPassword = await failureOf(volume.vault.unlock('wrong', keyFile));
    const wrongKeyFile = await failureOf(volume.vault.unlock(password, otherKey));
    expect(wrongPassword).toBeInstanceOf(VaultSecretError);
    expect(wrongPassword).toMatchObject(code('VAULT_SECRET'));
    expect(String(wrongKeyFile)).toBe(String(wrongPassword));
    expect(await state()).toBe('locked');
    // More of them have to wait, and so has the right one.
    let said = wrongPassword;
    for (let tries = 0; tries < 8 && said instanceof VaultSecretError; tries += 1) {
      said = await failureOf(volume.vault.check('wrong', keyFile));
    }
    expect(said).toMatchObject(code('VAULT_RATE_LIMITED'));
    await expect(volume.vault.unlock(password, keyFile)).rejects.toMatchObject(code('VAULT_RATE_LIMITED'));

    await expect(volume.vault.unlock('', keyFile)).rejects.toMatchObject(code('USAGE'));
    const nonsense = join(root, 'nonsense');
    writeFileSync(nonsense, 'nonsense', { mode: 0o600 });
    await expect(volume.vault.unlock(password, nonsense)).rejects.toMatchObject(code('VAULT_KEY_FILE'));
    chmodSync(otherKey, 0o644);
    await expect(volume.vault.unlock(password, otherKey)).rejects.toMatchObject(code('VAULT_KEY_FILE'));
    expect(await state()).toBe('locked');

    const deadline = performance.now() + 90_000;
    while (performance.now() < deadline && (await failureOf(volume.vault.check(password, keyFile))) !== undefined) {
      await sleep(500);
    }
    expect(await state()).toBe('locked');
    await volume.vault.unlock(password, keyFile);
    expect(await state()).toBe('unlocked');
  });
});
