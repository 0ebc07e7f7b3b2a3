import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { AutoLock, type LockableVault } from '../src/index.ts';

class Vault implements LockableVault {
  state = 'unlocked';
  idleMs = 0;
  locks = 0;
  fails = false;

  async vaultStatus() {
    return this.state === 'unlocked' ? { state: this.state, idleMs: this.idleMs } : { state: this.state };
  }

  async vaultLock() {
    if (this.fails) {
      throw new Error('the disk is full');
    }
    this.locks += 1;
    this.state = 'locked';
  }
}

let vault: Vault;
let lock: AutoLock;
let told: unknown[];

beforeEach(() => {
  jest.useFakeTimers();
  vault = new Vault();
  told = [];
  lock = new AutoLock(
    vault,
    (idleMs) => told.push(idleMs),
    (error) => told.push((error as Error).message),
  );
});

afterEach(() => {
  lock.stop();
  jest.useRealTimers();
});

describe('a vault that locks itself', () => {
  test('does so once nobody used it for so long, and not before', async () => {
    lock.set(60_000);
    vault.idleMs = 59_999;
    await jest.advanceTimersByTimeAsync(60_000);
    expect(vault.locks).toBe(0);
    vault.idleMs = 60_000;
    await jest.advanceTimersByTimeAsync(15_000);
    expect([vault.locks, told]).toEqual([1, [60_000]]);
    await jest.advanceTimersByTimeAsync(600_000);
    expect(vault.locks).toBe(1);
    vault.state = 'unlocked';
    await jest.advanceTimersByTimeAsync(15_000);
    expect(vault.locks).toBe(2);
  });

  test('is not locked a second time by a look from before it was unlocked again', async () => {
    let finish = (): void => undefined;
    vault.vaultLock = async () => {
      vault.locks += 1;
      await new Promise<void>((resolve) => {
        finish = resolve;
      });
      vault.state = 'locked';
    };
    lock.set(1000);
    vault.idleMs = 1000;
    // A lock waits for operations under way for longer than from one look to the next.
    await jest.advanceTimersByTimeAsync(5000);
    expect(vault.locks).toBe(1);
    finish();
    await jest.advanceTimersByTimeAsync(5000);
    expect([vault.locks, told]).toEqual([1, [1000]]);
  });

  test('tries again when it could not, and stays open when it is told to', async () => {
    lock.set(1000);
    vault.idleMs = 5000;
    vault.fails = true;
    await jest.advanceTimersByTimeAsync(1000);
    expect(told.length).toBeGreaterThan(1);
    expect(told[0]).toBe('the disk is full');
    lock.set(0);
    vault.fails = false;
    await jest.advanceTimersByTimeAsync(60_000);
    expect(vault.locks).toBe(0);
  });
});
