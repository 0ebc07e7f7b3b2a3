/** What is told about a vault. */
export interface VaultStatus {
  readonly state: 'absent' | 'locked' | 'unlocked' | 'damaged';
  /** When it was made, in milliseconds since 1970. */
  readonly created?: number | undefined;
  /** Whether its data is compressed before it is encrypted. */
  readonly compressed?: boolean | undefined;
  /** Memory of one try of a password, in KiB. */
  readonly memoryKib: number;
  /** Passes over it. */
  readonly passes: number;
  /** For how long nobody used it, in milliseconds, while it is unlocked. */
  readonly idleMs?: number | undefined;
  /** Whether it gets a new data key; `failed`: that goes on when it is unlocked next. */
  readonly rekey: 'idle' | 'running' | 'failed';
  /** Bytes of data that are encrypted with it so far. */
  readonly rekeyedBytes: number;
  /** Why that could not go on; empty when it could. */
  readonly rekeyFailure: string;
}

/**
 * The vault of a volume, by the engine in this process or through a daemon. Secrets come through a Unix socket on which
 * the caller listens, so that they are in the memory of nobody else.
 */
export interface VaultCalls {
  vaultStatus(): Promise<VaultStatus>;
  vaultCreate(options: { readonly compressed: boolean; readonly socket: string }, signal?: AbortSignal): Promise<void>;
  vaultUnlock(socket: string, signal?: AbortSignal): Promise<void>;
  /** Whether the secret is right; opens nothing. */
  vaultCheck(socket: string, signal?: AbortSignal): Promise<void>;
  vaultLock(graceMs: number, signal?: AbortSignal): Promise<void>;
  /** Its damaged files go to the socket: path, pack and what is wrong of each, with a zero behind each of them. */
  vaultDamaged(socket: string, signal?: AbortSignal): Promise<void>;
  /** Two secrets come: the vault's, and what it shall have instead. */
  vaultChange(socket: string, signal?: AbortSignal): Promise<void>;
  /** Gives the open vault a new data key, and begins to encrypt anew what it has. */
  vaultRekey(socket: string, signal?: AbortSignal): Promise<void>;
}
