/** A line between a caller and whoever has the volume open, beside the calls. */
import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { prepareRuntimeDirectory, runtimeDirectory } from './registry.ts';

/** A Unix socket in the directory that is this user's alone, on which one connection is waited for. */
export interface Meeting {
  readonly socket: string;
  readonly connection: Promise<Socket>;
  end(): void;
}

/** Begins to listen. */
export async function meet(): Promise<Meeting> {
  prepareRuntimeDirectory();
  const path = join(runtimeDirectory(), `stream-${randomBytes(6).toString('hex')}.sock`);
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
  let met: Socket | undefined;
  const connection = new Promise<Socket>((resolve) => {
    server.once('connection', (socket) => {
      met = socket;
      // A process that is killed leaves nothing.
      rmSync(path, { force: true });
      // What the other end says counts, not how the line broke.
      socket.on('error', () => undefined);
      server.close();
      resolve(socket);
    });
  });
  const end = () => {
    server.close();
    met?.destroy();
    rmSync(path, { force: true });
  };
  return { socket: path, connection, end };
}
