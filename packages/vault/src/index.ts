/**
 * The vault's side in TypeScript: key files, secrets on their way to the engine, and when a vault locks itself.
 * Never here: cryptography, sockets, how a password is asked for. Data flows from files and callers to the engine.
 */
export { AutoLock, type LockableVault } from './auto-lock.ts';
export { type CreatedKeyFile, createKeyFile, keyFileIn, keyFileName, readKeyFile, replaceKeyFile } from './key-file.ts';
export { encodeSecrets, type VaultSecret, wipe } from './secret.ts';
