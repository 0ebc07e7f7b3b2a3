import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { AlreadyMountedError, type ErrorRecord, IoError, toVerfsError, UsageError } from '@verfs/errors';
import type { Log } from '@verfs/log';
import { peerUid } from '@verfs/native';
import {
  type CancellationToken,
  createMessageConnection,
  type MessageConnection,
  ResponseError,
  SocketMessageReader,
  SocketMessageWriter,
} from 'vscode-jsonrpc/node';
import { answersAt } from '../registry.ts';
import { controlParameters } from './parameters.ts';
import {
  type ControlHandlers,
  type ControlMethod,
  type ControlMethods,
  type ParametersOf,
  type ProgressOf,
  type ProgressReport,
  progressMethod,
  verfsRpcError,
} from './protocol.ts';

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

/** Whether the same user, or root, is at the other end. */
function isFriend(socket: Socket, log: Log): boolean {
  try {
    const uid = peerUid(descriptorOf(socket));
    if (uid === process.getuid?.() || uid === 0) {
      return true;
    }
    log.warn(`refused a connection of user ${uid} to the control socket`);
  } catch (thrown) {
    // He is gone already, or the addon is not there.
    log.warn(`refused a connection to the control socket: ${toVerfsError(thrown).message}`);
  }
  return false;
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause) => {
      reject(new IoError(`The control socket ${path} cannot be made: ${cause.message}`, { path, cause }));
    });
    server.listen(path, resolve);
  });
}

/** Fires when the client cancels, or is gone. */
function signalOf(token: CancellationToken, gone: AbortSignal): AbortSignal {
  const cancelled = new AbortController();
  token.onCancellationRequested(() => cancelled.abort('the client cancelled it'));
  return AbortSignal.any([cancelled.signal, gone]);
}

/** What `method` wants, of what a client sent. */
function parametersOf(method: ControlMethod, sent: object): unknown {
  if (!isParametrized(method)) {
    return undefined;
  }
  const result = controlParameters[method].safeParse(sent);
  if (!result.success) {
    const issue = result.error.issues[0];
    const what = `${method} was asked with wrong parameters: ${issue?.path.join('.')}: ${issue?.message}`;
    throw new UsageError(what, { advice: 'Is the daemon of another version? Unmount and mount again.' });
  }
  return result.data;
}

const isParametrized = (method: ControlMethod): method is keyof typeof controlParameters =>
  Object.hasOwn(controlParameters, method);

async function answer<M extends ControlMethod>(
  handlers: ControlHandlers,
  method: M,
  sent: unknown,
  connection: MessageConnection,
  signal: AbortSignal,
): Promise<ControlMethods[M]> {
  const { progress: wanted, ...rest } = (sent ?? {}) as { readonly progress?: unknown };
  const parameters = parametersOf(method, rest) as ParametersOf<M>;
  const progress = async (value: ProgressOf<M>) => {
    if (typeof wanted === 'number') {
      await connection.sendRequest(progressMethod, { progress: wanted, value } satisfies ProgressReport);
    }
  };
  return await handlers[method](parameters, { signal, progress });
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
    if (!isFriend(socket, log)) {
      socket.destroy();
      return;
    }
    const connection = createMessageConnection(new SocketMessageReader(socket), new SocketMessageWriter(socket));
    connections.set(socket, connection);
    socket.once('close', () => {
      connections.delete(socket);
      connection.dispose();
    });
    const gone = new AbortController();
    socket.once('close', () => gone.abort('the client hung up'));
    for (const method of Object.keys(handlers) as ControlMethod[]) {
      // Parameters come first, where there are any.
      connection.onRequest<ControlMethods[ControlMethod], ErrorRecord>(method, async (...args: unknown[]) => {
        waiting.add(socket);
        const token = args.pop() as CancellationToken;
        try {
          return await answer(handlers, method, args[0], connection, signalOf(token, gone.signal));
        } catch (thrown) {
          const error = toVerfsError(thrown);
          return new ResponseError<ErrorRecord>(verfsRpcError, error.message, error.toJSON());
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
