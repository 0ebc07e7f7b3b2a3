import { closeSync, constants, fstatSync, fsyncSync, openSync, readSync, renameSync, rmSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { IoError, VaultKeyFileError } from '@verfs/errors';
import { newVaultKeyFile } from '@verfs/native';

/** Name of the file that `verfs crypt -c` makes. */
export const keyFileName = 'verfsnext.vault.key';

/** Longest file that is read as a key file, in bytes: they have some 110. */
const keyFileMaxBytes = 4096;

/** A key file that was made, and how to take it back. */
export interface CreatedKeyFile {
  readonly path: string;
  readonly content: Buffer;
  /** Removes it: nothing is opened by it. */
  undo(): void;
}

function syncDirectory(path: string): void {
  const directory = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}

/**
 * Makes the new key file `path`, for its owner only; it is on the disk when this returns.
 *
 * @throws VaultKeyFileError when there is something already: a key file is never overwritten; IoError
 */
export function createKeyFile(path: string): CreatedKeyFile {
  const content = Buffer.from(newVaultKeyFile(), 'latin1');
  const undo = () => rmSync(path, { force: true });
  let file: number;
  try {
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
    file = openSync(path, flags, 0o600);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'EEXIST') {
      throw new VaultKeyFileError(`There is a file ${path} already, and a key file is never overwritten`, {
        path,
        advice: 'Choose another directory with `-path DIR`, or move that file away.',
        cause,
      });
    }
    throw new IoError(`The key file ${path} cannot be made: ${(cause as Error).message}`, { path, cause });
  }
  try {
    writeSync(file, content);
    fsyncSync(file);
    closeSync(file);
    syncDirectory(dirname(path));
  } catch (cause) {
    undo();
    throw new IoError(`The key file ${path} cannot be written: ${(cause as Error).message}`, { path, cause });
  }
  return { path, content, undo };
}

/** Puts the new key file `from` in the place of the old one. */
export function replaceKeyFile(from: string, to: string): void {
  renameSync(from, to);
  syncDirectory(dirname(to));
}

/**
 * The content of a key file.
 *
 * @throws VaultKeyFileError when it is missing, others may read it, or it is too long for one; IoError
 */
export function readKeyFile(path: string): Buffer {
  let file: number;
  try {
    file = openSync(path, constants.O_RDONLY);
  } catch (cause) {
    const advice = `Name the file ${keyFileName} that \`verfs crypt -c\` made, with \`-k FILE\`.`;
    throw new VaultKeyFileError(`The key file ${path} cannot be read: ${(cause as Error).message}`, {
      path,
      advice,
      cause,
    });
  }
  try {
    const status = fstatSync(file);
    if ((status.mode & 0o077) !== 0 && status.isFile()) {
      const advice = `Make it yours alone: \`chmod 600 ${path}\`.`;
      throw new VaultKeyFileError(`Others may use the key file ${path}`, { path, advice });
    }
    const content = Buffer.alloc(keyFileMaxBytes + 1);
    const bytes = readSync(file, content);
    if (bytes > keyFileMaxBytes) {
      content.fill(0);
      throw new VaultKeyFileError(`${path} is too long for a key file`, { path });
    }
    return content.subarray(0, bytes);
  } finally {
    closeSync(file);
  }
}

/** Where a key file is made in `directory`. */
export const keyFileIn = (directory: string): string => join(directory, keyFileName);
