/** What locks itself. */
export interface LockableVault {
  vaultStatus(): Promise<{ readonly state: string; readonly idleMs?: number | undefined | null }>;
  vaultLock(graceMs: number): Promise<void>;
}

/** How often it is looked whether the time has come, at least, in milliseconds. */
const lookEveryMs = 5000;

/** Longest time that operations under way get, in milliseconds. */
const graceMs = 10_000;

/** Locks a vault that nobody used for so long. */
export class AutoLock {
  readonly #vault: LockableVault;
  readonly #onLocked: (idleMs: number) => void;
  readonly #onError: (error: unknown) => void;
  #timer: NodeJS.Timeout | undefined;
  #afterMs = 0;
  /** Whether a look is under way: a second lock would wait for the first one, and lock what was unlocked meanwhile. */
  #looking = false;

  constructor(vault: LockableVault, onLocked: (idleMs: number) => void, onError: (error: unknown) => void) {
    this.#vault = vault;
    this.#onLocked = onLocked;
    this.#onError = onError;
  }

  /** After how much idle time it locks, in milliseconds; 0: never. */
  get afterMs(): number {
    return this.#afterMs;
  }

  /** From now on it locks after `afterMs` without use; never with 0. */
  set(afterMs: number): void {
    this.stop();
    this.#afterMs = afterMs;
    if (afterMs > 0) {
      this.#timer = setInterval(() => this.#look(), Math.min(lookEveryMs, Math.max(100, afterMs / 4)));
      this.#timer.unref();
    }
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#afterMs = 0;
  }

  async #look(): Promise<void> {
    if (this.#looking) {
      return;
    }
    this.#looking = true;
    const afterMs = this.#afterMs;
    try {
      const { state, idleMs } = await this.#vault.vaultStatus();
      if (state === 'unlocked' && typeof idleMs === 'number' && afterMs > 0 && idleMs >= afterMs) {
        await this.#vault.vaultLock(graceMs);
        this.#onLocked(idleMs);
      }
    } catch (error) {
      this.#onError(error);
    } finally {
      this.#looking = false;
    }
  }
}
