import type { VaultCalls, VaultStatus } from '@verfs/native';
import { AutoLock } from '@verfs/vault';
import type { VaultServer } from './vault.ts';

/** The vault of a volume that this process has open. */
export class LocalVault implements VaultServer {
  readonly #native: VaultCalls;
  readonly #autoLock: AutoLock;

  /**
   * @param onLocked Called when it locked itself.
   * @param onError Called when it could not.
   */
  constructor(
    native: VaultCalls,
    onLocked: (idleMs: number) => void = () => undefined,
    onError: (error: unknown) => void = () => undefined,
  ) {
    this.#native = native;
    this.#autoLock = new AutoLock(native, onLocked, onError);
  }

  vaultStatus(): Promise<VaultStatus> {
    return this.#native.vaultStatus();
  }

  vaultCreate(options: { readonly compressed: boolean; readonly socket: string }, signal?: AbortSignal): Promise<void> {
    return this.#native.vaultCreate(options, signal);
  }

  vaultUnlock(socket: string, signal?: AbortSignal): Promise<void> {
    return this.#native.vaultUnlock(socket, signal);
  }

  vaultCheck(socket: string, signal?: AbortSignal): Promise<void> {
    return this.#native.vaultCheck(socket, signal);
  }

  vaultLock(graceMs: number, signal?: AbortSignal): Promise<void> {
    return this.#native.vaultLock(graceMs, signal);
  }

  vaultDamaged(socket: string, signal?: AbortSignal): Promise<void> {
    return this.#native.vaultDamaged(socket, signal);
  }

  vaultChange(socket: string, signal?: AbortSignal): Promise<void> {
    return this.#native.vaultChange(socket, signal);
  }

  vaultRekey(socket: string, signal?: AbortSignal): Promise<void> {
    return this.#native.vaultRekey(socket, signal);
  }

  async vaultAutoLock(afterMs: number): Promise<void> {
    this.#autoLock.set(afterMs);
  }

  /** Ends the watch. */
  stop(): void {
    this.#autoLock.stop();
  }
}
