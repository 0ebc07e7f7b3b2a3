/** What opens a vault. Both are wiped once they were handed over. */
export interface VaultSecret {
  readonly password: Uint8Array;
  /** Content of the key file. */
  readonly keyFile: Uint8Array;
}

/** Overwrites a secret: a text can't be, bytes can. */
export function wipe(...secrets: readonly VaultSecret[]): void {
  for (const { password, keyFile } of secrets) {
    password.fill(0);
    keyFile.fill(0);
  }
}

/** The bytes that the engine reads from its socket: each part behind its length, 4 bytes, little-endian. */
export function encodeSecrets(secrets: readonly VaultSecret[]): Buffer {
  const parts = secrets.flatMap(({ password, keyFile }) => [password, keyFile]);
  // Not of the pool of small buffers, which others share and nobody wipes.
  const out = Buffer.alloc(parts.reduce((bytes, part) => bytes + 4 + part.length, 0));
  let at = 0;
  for (const part of parts) {
    at = out.writeUInt32LE(part.length, at);
    out.set(part, at);
    at += part.length;
  }
  return out;
}
