import { spawn } from 'node:child_process';
import { closeSync, fstatSync, openSync, readSync, unlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { DaemonDiedError, restoreError } from '@verfs/errors';
import type { Ready } from './host.ts';
import { isDaemonReport } from './messages.ts';
import type { DaemonRequest } from './request.ts';

/** Most of a dead daemon's standard error that is quoted. */
const quotedMaxBytes = 500;

/**
 * A file without a name, for the standard error of a daemon, in case that it dies before it has a log. None where no
 * file can be made.
 */
function namelessFile(): number | undefined {
  const path = join(tmpdir(), `verfs-stderr-${process.pid}-${Date.now()}`);
  try {
    const descriptor = openSync(path, 'wx+', 0o600);
    unlinkSync(path);
    return descriptor;
  } catch {
    return undefined;
  }
}

function lastWords(descriptor: number | undefined): string {
  if (descriptor === undefined) {
    return '';
  }
  const { size } = fstatSync(descriptor);
  const buffer = Buffer.alloc(Math.min(size, quotedMaxBytes));
  readSync(descriptor, buffer, 0, buffer.length, size - buffer.length);
  return buffer.toString('utf8').replace(expectedWarning, '').trim().replaceAll(/\s+/g, ' ');
}

/**
 * Options of Node.js that save 15 MB: its JavaScript answers a command now and then, which needs neither compiled code (`node
 * --v8-options` has them) nor room for many new objects.
 */
const smallEngine = ['--lite-mode', '--max-semi-space-size=1'];

/** What Node.js up to 22 says of the first of them. */
const expectedWarning = 'Warning: disabling flag --expose_wasm due to conflicting flags';

/**
 * Starts a detached daemon and waits until it serves the mount. It ends again when this process ends before.
 *
 * @throws The error for which the daemon could not serve; DaemonDiedError
 */
export async function startDaemon(request: DaemonRequest): Promise<Ready> {
  const program = fileURLToPath(new URL('./main.js', import.meta.url));
  const stderr = namelessFile();
  // The arguments are for those who list processes; the request comes over IPC.
  const child = spawn(process.execPath, [...smallEngine, program, request.volume, request.mountpoint], {
    cwd: '/',
    detached: true,
    // With an arena for each of its threads, glibc would keep twice the memory that is in use.
    env: { ...process.env, MALLOC_ARENA_MAX: '2' },
    stdio: ['ignore', 'ignore', stderr ?? 'ignore', 'ipc'],
  });
  try {
    return await new Promise<Ready>((resolve, reject) => {
      child.once('error', (cause) => reject(new DaemonDiedError('The daemon cannot be started', { cause })));
      child.once('exit', (code, killer) => {
        const how = killer === null ? `with exit code ${code}` : `by signal ${killer}`;
        const words = lastWords(stderr);
        reject(new DaemonDiedError(`The daemon ended ${how} before it served${words === '' ? '' : `: ${words}`}`));
      });
      child.on('message', (message) => {
        if (!isDaemonReport(message)) {
          return;
        }
        if (message.kind === 'ready') {
          resolve(message.ready);
        } else {
          reject(restoreError(message.error));
        }
      });
      child.send(request);
    });
  } finally {
    child.removeAllListeners();
    if (child.connected) {
      child.disconnect();
    }
    child.unref();
    if (stderr !== undefined) {
      closeSync(stderr);
    }
  }
}
