import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { IoError, VaultDamagedError, VaultExistsError } from '@verfs/errors';
import { Vault } from '../src/vault.ts';
import { FakeVault } from './fake-vault.ts';

let directory: string;
let fake: FakeVault;
let vault: Vault;
let keyFile: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'verfs-test-vault-'));
  keyFile = join(directory, 'verfsnext.vault.key');
  fake = new FakeVault();
  vault = new Vault(fake);
});

afterEach(() => rmSync(directory, { recursive: true }));

describe('a key file of a new vault', () => {
  test('stays when the vault may be there, whatever went wrong', async () => {
    fake.vaultCreate = async ({ socket }) => {
      await FakeVault.prototype.vaultCreate.call(fake, { compressed: true, socket });
      throw new IoError('the daemon was killed');
    };
    await expect(vault.create('password', { directory })).rejects.toThrow('the daemon was killed');
    expect(fake.secret).toEqual(['password', readFileSync(keyFile, 'utf8')]);
  });

  test('stays when nobody knows whether there is a vault', async () => {
    fake.vaultCreate = async () => {
      throw new IoError('the line broke');
    };
    fake.vaultStatus = fake.vaultCreate as never;
    await expect(vault.create('password', { directory })).rejects.toThrow('the line broke');
    expect(existsSync(keyFile)).toBe(true);
  });

  test('goes when there is no vault, or one of somebody else', async () => {
    for (const error of [new IoError('no room'), new VaultExistsError('there is one')]) {
      fake.vaultCreate = async () => {
        throw error;
      };
      fake.state = error instanceof VaultExistsError ? 'locked' : 'absent';
      await expect(vault.create('password', { directory })).rejects.toBe(error);
      expect(readdirSync(directory)).toEqual([]);
    }
  });
});

describe('a new key file of a vault', () => {
  test('stays beside the old one when it may be what opens the vault', async () => {
    await vault.create('password', { directory });
    const before = readFileSync(keyFile, 'utf8');
    fake.vaultChange = async (socket) => {
      await FakeVault.prototype.vaultChange.call(fake, socket);
      throw new IoError('the daemon was killed');
    };
    await expect(vault.rotateKeyFile('password', keyFile)).rejects.toThrow('the daemon was killed');
    const [made] = readdirSync(directory).filter((name) => name.includes('.new-'));
    expect(fake.secret).toEqual(['password', readFileSync(join(directory, made ?? ''), 'utf8')]);
    expect(readFileSync(keyFile, 'utf8')).toBe(before);
  });

  test('goes when the password was wrong', async () => {
    await vault.create('password', { directory });
    await expect(vault.rotateKeyFile('wrong', keyFile)).rejects.toMatchObject({ code: 'VERFS_E_VAULT_SECRET' });
    expect(readdirSync(directory)).toEqual(['verfsnext.vault.key']);
  });
});

test('a damaged key is told from a wrong secret, and no new key file stays', async () => {
  await vault.create('password', { directory });
  const damaged = async () => {
    throw new VaultDamagedError('The record of the keys is damaged');
  };
  Object.assign(fake, { vaultUnlock: damaged, vaultCheck: damaged, vaultChange: damaged, vaultRekey: damaged });
  const code = { code: 'VERFS_E_VAULT_DAMAGED' };
  await expect(vault.unlock('password', keyFile)).rejects.toMatchObject(code);
  await expect(vault.check('password', keyFile)).rejects.toMatchObject(code);
  await expect(vault.changePassword('password', 'other', keyFile)).rejects.toMatchObject(code);
  await expect(vault.rekey('password', keyFile)).rejects.toMatchObject(code);
  await expect(vault.rotateKeyFile('password', keyFile)).rejects.toMatchObject(code);
  expect(readdirSync(directory)).toEqual(['verfsnext.vault.key']);
});

test('damaged files of a vault come through a socket', async () => {
  expect(await vault.damaged()).toEqual([]);
  fake.damaged.push('/.vault/a', '7', 'torn', '/.vault/b\n', '', 'missing');
  expect(await vault.damaged()).toEqual([
    { path: '/.vault/a', pack: '7', detail: 'torn' },
    { path: '/.vault/b\n', pack: '', detail: 'missing' },
  ]);
});
