import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { AlreadyMountedError, type ErrorRecord, IoError, toVerfsError } from '@verfs/errors';
import type { Log } from '@verfs/log';
import { peerUid } from '@verfs/native';
import {
  createMessageConnection,
  type MessageConnection,
  ResponseError,
  SocketMessageReader,
  SocketMessageWriter,
} from 'vscode-jsonrpc/node';
import { answersAt } from '../registry.ts';
import { type ControlHandlers, type ControlMethod, type ControlMethods, verfsRpcError } from './protocol.ts';

/** Connections at once; further ones are refused. */
const connectionsMax = 64;

/** Time that a client gets to take its last answer and hang up when the server closes, in milliseconds. */
const answerTakenWithinMs = 1000;

/** A listening control socket. */
export interface ControlServer {
  /** Stops listening and ends every connection, once its client had the time to take its last answer. */
  close(): Promise<void>;
}

/** Descriptor of a socket. Node has no public way to it. */
function descriptorOf(socket: Socket): number {
  return (socket as unknown as { _handle?: { fd?: number } })._handle?.fd ?? -1;
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause) => {
      reject(new IoError(`The control socket ${path} cannot be made: ${cause.message}`, { path, cause }));
    });
    server.listen(path, resolve);
  });
}

/**
 * Serves `handlers` on the Unix socket `path`, to processes of the same user and of root only.
 *
 * @throws AlreadyMountedError when another daemon answers there; IoError
 */
export async function serveControl(path: string, handlers: ControlHandlers, log: Log): Promise<ControlServer> {
  if (await answersAt(path)) {
    const what = 'Another daemon serves a volume with the same uuid, of which this one is a copy';
    throw new AlreadyMountedError(what, { path, advice: 'Unmount that one first.' });
  }
  rmSync(path, { force: true });

  const connections = new Map<Socket, MessageConnection>();
  // Who asked for something may not have the answer yet when the server closes, and hangs up once he has.
  const waiting = new WeakSet<Socket>();
  const server = createServer((socket) => {
    // A client that goes away in the middle of an answer is no fault of ours.
    socket.on('error', () => undefined);
    const uid = peerUid(descriptorOf(socket));
    if (uid !== process.getuid?.() && uid !== 0) {
      log.warn(`refused a connection of user ${uid} to the control socket`);
      socket.destroy();
      return;
    }
    const connection = createMessageConnection(new SocketMessageReader(socket), new SocketMessageWriter(socket));
    connections.set(socket, connection);
    socket.once('close', () => {
      connections.delete(socket);
      connection.dispose();
    });
    for (const method of Object.keys(handlers) as ControlMethod[]) {
      connection.onRequest<ControlMethods[ControlMethod], ErrorRecord>(method, async () => {
        waiting.add(socket);
        try {
          return await handlers[method]();
        } catch (thrown) {
          const error = toVerfsError(thrown);
          return new ResponseError(verfsRpcError, error.message, error.toJSON());
        }
      });
    }
    connection.onError(([error]) => log.warn(`a control connection failed: ${error.message}`));
    connection.listen();
  });
  server.maxConnections = connectionsMax;
  await listen(server, path);
  chmodSync(path, 0o600);

  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        const hangUp = (socket: Socket) => socket.destroy();
        for (const socket of connections.keys()) {
          if (waiting.has(socket)) {
            setTimeout(hangUp, answerTakenWithinMs, socket).unref();
          } else {
            hangUp(socket);
          }
        }
      }),
  };
}
