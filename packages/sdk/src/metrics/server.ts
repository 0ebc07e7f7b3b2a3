import { chmodSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type MetricsAddress, parseMetricsAddress } from '@verfs/config';
import { IoError, toVerfsError, UsageError } from '@verfs/errors';
import type { Log } from '@verfs/log';
import { answersAt } from '../registry.ts';

/** Connections at once; further ones are refused. */
const connectionsMax = 16;
/** Time for a request to come whole, in milliseconds. */
const requestWithinMs = 5000;

/** A listening server. */
export interface MetricsServer {
  close(): Promise<void>;
}

async function answer(request: IncomingMessage, response: ServerResponse, text: () => Promise<string>): Promise<void> {
  const { pathname } = new URL(request.url ?? '/', 'http://localhost');
  if (pathname !== '/metrics') {
    response.writeHead(404, { 'content-type': 'text/plain' }).end('The metrics are at /metrics.\n');
  } else if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.writeHead(405, { allow: 'GET, HEAD' }).end();
  } else {
    const body = await text();
    response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' }).end(body);
  }
}

/** Makes way for the socket, unless somebody answers there. */
async function clear(address: MetricsAddress): Promise<void> {
  if ('path' in address && !(await answersAt(address.path))) {
    rmSync(address.path, { force: true });
  }
}

/**
 * Serves `text` at `/metrics` of `where`, an address as `parseMetricsAddress` takes it.
 *
 * @throws UsageError when it is none; IoError when somebody else is there, or it cannot be made.
 */
export async function serveMetrics(where: string, text: () => Promise<string>, log: Log): Promise<MetricsServer> {
  const address = parseMetricsAddress(where);
  if (address === undefined) {
    const advice = 'Write 127.0.0.1:PORT, or unix: and the path of a socket.';
    throw new UsageError(`Metrics cannot be served at ${where}`, { advice });
  }
  await clear(address);
  const server = createServer(
    { requestTimeout: requestWithinMs, headersTimeout: requestWithinMs },
    (request, response) => {
      answer(request, response, text).catch((thrown: unknown) => {
        log.warn(`metrics could not be served: ${toVerfsError(thrown).message}`);
        response.writeHead(500).end();
      });
    },
  );
  server.maxConnections = connectionsMax;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) => {
      reject(
        new IoError(`Metrics cannot be served at ${where}: ${cause.message}`, { cause, advice: 'Choose another.' }),
      );
    });
    server.listen(address, resolve);
  });
  if ('path' in address) {
    chmodSync(address.path, 0o600);
  }
  // The mount keeps the process, not this.
  server.unref();
  log.info(`serves metrics at ${where}`);
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
