/** The vault of a volume, for callers; and secrets on their way to whoever has the volume open. */
import { randomBytes } from 'node:crypto';
import { text } from 'node:stream/consumers';
import {
  UsageError,
  VaultAbsentError,
  VaultDamagedError,
  VaultExistsError,
  VaultRateLimitedError,
  VaultSecretError,
} from '@verfs/errors';
import type { Damage, VaultCalls, VaultStatus } from '@verfs/native';
import {
  type CreatedKeyFile,
  createKeyFile,
  encodeSecrets,
  keyFileIn,
  readKeyFile,
  replaceKeyFile,
  type VaultSecret,
  wipe,
} from '@verfs/vault';
import { millisecondsOf, optionsOf, passwordOf, signalOf, textOf } from './arguments.ts';
import type { Cancellable } from './cancellable.ts';
import { meet } from './meeting.ts';

/** How long operations under way may last when a vault is locked, unless somebody says otherwise, in milliseconds. */
const graceMsDefault = 10_000;

/** A password: text, or bytes, which are wiped when they were used. */
export type Password = string | Uint8Array;

/** What whoever has the volume open does for its vault. */
export type VaultServer = VaultCalls & {
  /** After how much idle time it locks itself, in milliseconds; 0 never. */
  vaultAutoLock?(afterMs: number): Promise<void>;
};

// A pooled buffer would be shared, and not wiped as a whole.
const bytesOf = (given: Password): Uint8Array => {
  const password = passwordOf(given);
  return typeof password === 'string' ? Uint8Array.from(Buffer.from(password, 'utf8')) : password;
};

const secretOf = (password: Password, keyFile: string): VaultSecret => ({
  password: bytesOf(password),
  keyFile: readKeyFile(textOf('keyFile', keyFile)),
});

/** Errors after which the secrets of a vault are what they were. */
const refusals = [VaultSecretError, VaultRateLimitedError, VaultAbsentError, VaultDamagedError, UsageError];

/** Makes `call`, and gives `secrets` to whoever takes them at its socket. They are wiped afterwards. */
async function handOver(secrets: readonly VaultSecret[], call: (socket: string) => Promise<void>): Promise<void> {
  const sent = encodeSecrets(secrets);
  const meeting = await meet();
  try {
    const called = call(meeting.socket);
    called.catch(() => meeting.end());
    const line = await Promise.race([meeting.connection, called.then(() => meeting.connection)]);
    await new Promise<void>((resolve) => line.end(sent, () => resolve()));
    await called;
  } finally {
    meeting.end();
    sent.fill(0);
    wipe(...secrets);
  }
}

/**
 * The vault of a volume: an encrypted folder, `.vault` in the root of the mount while it is unlocked, and not there at
 * all while it is locked. Every call may throw `VaultAbsentError`, `VaultDamagedError` and `CancelledError`.
 */
export class Vault {
  readonly #calls: VaultServer;

  /** Made by `Volume` and `VolumeClient`. */
  constructor(calls: VaultServer) {
    this.#calls = calls;
  }

  /** What it is. */
  status(): Promise<VaultStatus> {
    return this.#calls.vaultStatus();
  }

  /**
   * Makes a vault, locked, with a new key file in `directory`. Gives the path of the key file: without it nobody opens
   * the vault, nor without the password.
   *
   * @throws VaultExistsError, VaultKeyFileError, PathExistsError; after others the key file may be there, because the
   * vault may be
   */
  async create(
    password: Password,
    options: { readonly directory?: string; readonly compressed?: boolean } & Cancellable = {},
  ): Promise<string> {
    const { directory = '.', compressed = true } = optionsOf(options);
    const signal = signalOf(options);
    const made: CreatedKeyFile = createKeyFile(keyFileIn(textOf('directory', directory)));
    try {
      const secret = { password: bytesOf(password), keyFile: made.content };
      await handOver([secret], (socket) => this.#calls.vaultCreate({ compressed, socket }, signal));
    } catch (error) {
      // Whatever went wrong may have done so after the vault was made: then this file is needed to open it.
      if (error instanceof VaultExistsError || (signal?.aborted !== true && (await this.#isAbsent()))) {
        made.undo();
      }
      throw error;
    }
    return made.path;
  }

  async #isAbsent(): Promise<boolean> {
    try {
      return (await this.status()).state === 'absent';
    } catch {
      return false;
    }
  }

  /**
   * Opens it.
   *
   * @throws VaultUnlockedError, VaultSecretError, VaultRateLimitedError, VaultKeyFileError
   */
  async unlock(password: Password, keyFile: string, options: Cancellable = {}): Promise<void> {
    await handOver([secretOf(password, keyFile)], (socket) => this.#calls.vaultUnlock(socket, signalOf(options)));
  }

  /**
   * Whether these open it; opens nothing.
   *
   * @throws as `unlock`
   */
  async check(password: Password, keyFile: string, options: Cancellable = {}): Promise<void> {
    await handOver([secretOf(password, keyFile)], (socket) => this.#calls.vaultCheck(socket, signalOf(options)));
  }

  /**
   * Locks it: what was written is made durable, open files give errors, and nothing of it is left in memory. Operations
   * under way may last for `graceMs`. One that is locked stays so.
   *
   * @throws VolumeFullError, IoError: what was written cannot be made durable; then it stays unlocked
   */
  async lock(options: { readonly graceMs?: number } & Cancellable = {}): Promise<void> {
    const { graceMs = graceMsDefault } = optionsOf(options);
    await this.#calls.vaultLock(millisecondsOf('graceMs', graceMs), signalOf(options));
  }

  /**
   * Files in it with damaged data that were noticed since it was unlocked; none while it is locked. Their names come past
   * whoever has the volume open: the memory of a daemon's JavaScript is not to have them.
   */
  async damaged(options: Cancellable = {}): Promise<Damage[]> {
    const meeting = await meet();
    try {
      const called = this.#calls.vaultDamaged(meeting.socket, signalOf(options));
      called.catch(() => meeting.end());
      const line = await Promise.race([meeting.connection, called.then(() => meeting.connection)]);
      const parts = (await text(line)).split('\0');
      await called;
      const files = Array.from({ length: Math.floor(parts.length / 3) }, (_, index) => parts.slice(index * 3));
      return files.map(([path = '', pack = '', detail = '']) => ({ path, pack, detail }));
    } finally {
      meeting.end();
    }
  }

  /**
   * Has it opened by another password.
   *
   * @throws VaultSecretError, VaultRateLimitedError, VaultKeyFileError
   */
  async changePassword(
    password: Password,
    changed: Password,
    keyFile: string,
    options: Cancellable = {},
  ): Promise<void> {
    const secrets = [secretOf(password, keyFile), secretOf(changed, keyFile)];
    await handOver(secrets, (socket) => this.#calls.vaultChange(socket, signalOf(options)));
  }

  /**
   * Has it opened by another key file, which takes the place of the old one. After a crash the file opens it or
   * `FILE.new-…` beside it does.
   *
   * @throws VaultSecretError, VaultRateLimitedError, VaultKeyFileError
   */
  async rotateKeyFile(password: Password, keyFile: string, options: Cancellable = {}): Promise<void> {
    const before = secretOf(password, keyFile);
    const made = createKeyFile(`${keyFile}.new-${randomBytes(4).toString('hex')}`);
    try {
      const after = { password: Uint8Array.from(before.password), keyFile: made.content };
      await handOver([before, after], (socket) => this.#calls.vaultChange(socket, signalOf(options)));
    } catch (error) {
      // Any other may have come after the change: then this is the file that opens the vault.
      if (refusals.some((refusal) => error instanceof refusal)) {
        made.undo();
      }
      throw error;
    }
    replaceKeyFile(made.path, keyFile);
  }

  /**
   * Gives it a new data key, with which it encrypts from now on, and begins to encrypt anew what it has: in the
   * background, and again after each unlocking until all is done. `status` tells how far it is.
   *
   * @throws VaultLockedError, UsageError when one is under way, VaultSecretError, VaultRateLimitedError,
   * VaultKeyFileError
   */
  async rekey(password: Password, keyFile: string, options: Cancellable = {}): Promise<void> {
    await handOver([secretOf(password, keyFile)], (socket) => this.#calls.vaultRekey(socket, signalOf(options)));
  }

  /**
   * Has it lock itself when nobody used it for `afterMs`; never with 0. Until the volume is closed.
   */
  async autoLock(afterMs: number): Promise<void> {
    await this.#calls.vaultAutoLock?.(millisecondsOf('afterMs', afterMs));
  }
}
