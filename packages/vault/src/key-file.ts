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

/** How long somebody may take to open the other end of a named pipe. */
const writerWithinMs = 2000;

const pause = () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);

/**
 * Reads `fd` to its end, or until `buffer` is full; gives how many bytes came. What is empty may be a pipe that nobody
 * has opened for writing yet, until the time `patience`.
 */
function readAll(fd: number, buffer: Buffer, patience: number): number {
  let filled = 0;
  while (filled < buffer.length) {
    let bytes: number;
    try {
      bytes = readSync(fd, buffer, filled, buffer.length - filled, null);
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code !== 'EAGAIN') {
        throw thrown;
      }
      // A pipe whose writer has not written yet.
      pause();
      continue;
    }
    if (bytes === 0) {
      if (filled > 0 || performance.now() >= patience) {
        break;
      }
      pause();
    }
    filled += bytes;
  }
  return filled;
}

/**
 * The content of a key file. It may be a pipe, as shells make of `<(gpg -d key.gpg)`.
 *
 * @throws VaultKeyFileError when it is missing, neither a file nor a pipe, empty or too long for one, or others may
 * read it
 */
export function readKeyFile(path: string): Buffer {
  const unreadable = (cause: unknown) => {
    const advice = `Name the file ${keyFileName} that \`verfs crypt -c\` made, with \`-k FILE\`.`;
    const message = `The key file ${path} cannot be read: ${(cause as Error).message}`;
    return new VaultKeyFileError(message, { path, advice, cause });
  };
  let file: number;
  try {
    // A named pipe to which nobody writes must not keep anybody waiting for ever.
    file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch (cause) {
    throw unreadable(cause);
  }
  const content = Buffer.alloc(keyFileMaxBytes + 1);
  try {
    const status = fstatSync(file);
    if (!status.isFile() && !status.isFIFO()) {
      throw new VaultKeyFileError(`${path} is neither a file nor a pipe`, { path });
    }
    if ((status.mode & 0o077) !== 0 && status.isFile()) {
      const advice = `Make it yours alone: \`chmod 600 ${path}\`.`;
      throw new VaultKeyFileError(`Others may use the key file ${path}`, { path, advice });
    }
    const bytes = readAll(file, content, status.isFIFO() ? performance.now() + writerWithinMs : 0);
    if (bytes === 0 || bytes > keyFileMaxBytes) {
      content.fill(0);
      throw new VaultKeyFileError(`${path} is ${bytes === 0 ? 'empty' : 'too long for a key file'}`, { path });
    }
    return content.subarray(0, bytes);
  } catch (thrown) {
    throw thrown instanceof VaultKeyFileError ? thrown : unreadable(thrown);
  } finally {
    closeSync(file);
  }
}

/** Where a key file is made in `directory`. */
export const keyFileIn = (directory: string): string => join(directory, keyFileName);
