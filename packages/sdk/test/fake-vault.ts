import { connect } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { VaultSecretError } from '@verfs/errors';
import type { VaultCalls, VaultStatus } from '@verfs/native';

/** A vault without a volume: it keeps what it was told. */
export class FakeVault implements VaultCalls {
  state: VaultStatus['state'] = 'absent';
  idleMs = 0;
  /** What came through sockets, by call. */
  readonly told: { call: string; secrets: string[] }[] = [];
  /** What opens it. */
  secret: string[] | undefined;
  graces: number[] = [];
  damaged: string[] = [];

  async #take(call: string, socket: string): Promise<string[]> {
    const bytes = await buffer(connect(socket));
    const secrets: string[] = [];
    for (let at = 0; at < bytes.length; ) {
      const length = bytes.readUInt32LE(at);
      secrets.push(bytes.subarray(at + 4, at + 4 + length).toString());
      at += 4 + length;
    }
    this.told.push({ call, secrets });
    return secrets;
  }

  #refuseWrong(secret: readonly string[]): void {
    if (secret.join('|') !== this.secret?.join('|')) {
      throw new VaultSecretError('The password or the key file is wrong');
    }
  }

  async vaultStatus(): Promise<VaultStatus> {
    const { state, idleMs } = this;
    const rekey = { rekey: 'idle', rekeyedBytes: 0, rekeyFailure: '' } as const;
    return { state, memoryKib: 65_536, passes: 3, ...rekey, ...(state === 'unlocked' ? { idleMs } : {}) };
  }

  async vaultCreate({ socket }: { readonly compressed: boolean; readonly socket: string }): Promise<void> {
    this.secret = await this.#take('create', socket);
    this.state = 'locked';
  }

  async vaultUnlock(socket: string): Promise<void> {
    this.#refuseWrong(await this.#take('unlock', socket));
    this.state = 'unlocked';
  }

  async vaultCheck(socket: string): Promise<void> {
    this.#refuseWrong(await this.#take('check', socket));
  }

  async vaultLock(graceMs: number): Promise<void> {
    this.graces.push(graceMs);
    this.state = 'locked';
  }

  async vaultDamaged(socket: string): Promise<void> {
    connect(socket).end(this.damaged.map((part) => `${part}\0`).join(''));
  }

  async vaultChange(socket: string): Promise<void> {
    const [password = '', keyFile = '', ...changed] = await this.#take('change', socket);
    this.#refuseWrong([password, keyFile]);
    this.secret = changed;
  }

  async vaultRekey(socket: string): Promise<void> {
    this.#refuseWrong(await this.#take('rekey', socket));
  }
}
