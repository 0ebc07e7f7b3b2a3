import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import express from 'express';
import serve from 'serve-handler';
import { Volume } from 'verfs';
import { detachBelow } from '../harness/mounts.ts';
import { sandboxPrefix } from '../harness/sandbox.ts';

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

/** Servers of others, unmodified, that give out what is in a volume: one takes an `fs`, the other one needs a mount. */
const servers: Readonly<Record<string, (volume: Volume, mountpoint: string) => Promise<RequestListener>>> = {
  'serve-handler in express, without a mount': async ({ fs }) => {
    const { lstat, readdir, realpath } = fs.promises;
    // It lets go of the stream that it opened when it answers 304: nobody hears that the volume closes under it.
    const createReadStream: typeof fs.createReadStream = (path, options) =>
      fs.createReadStream(path, options).on('error', () => undefined);
    const methods = { lstat, readdir, realpath, createReadStream };
    return express().use((request, response) => serve(request, response, { public: '/public', etag: true }, methods));
  },
  'express.static in a mount of the same process': async (volume, mountpoint) => {
    await volume.mount(mountpoint);
    return express().use(express.static(join(mountpoint, 'public')));
  },
};

describe.each(Object.entries(servers))('%s', (_name, start) => {
  const content = randomBytes(3_000_000);
  let root: string;
  let volume: Volume;
  let server: Server;
  let url: string;

  beforeEach(async () => {
    root = mkdtempSync(join(tmpdir(), sandboxPrefix));
    await Volume.create(join(root, 'volume'));
    volume = await Volume.open(join(root, 'volume'));
    const { promises: fs } = volume.fs;
    await fs.mkdir('/public/a', { recursive: true });
    await fs.writeFile('/public/data.bin', content);
    await fs.writeFile('/public/a/index.html', '<h1>from a volume</h1>');
    mkdirSync(join(root, 'mnt'));
    server = createServer(await start(volume, join(root, 'mnt')));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });

  afterEach(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await volume.close();
    await detachBelow(root);
    rmSync(root, { recursive: true, force: true });
  });

  const get = async (path: string, headers: Record<string, string> = {}, method = 'GET') => {
    const response = await fetch(`${url}${path}`, { method, headers });
    return { status: response.status, headers: response.headers, body: Buffer.from(await response.arrayBuffer()) };
  };

  test('gives whole files, the index of a directory, and 404 for what is not there', async () => {
    const whole = await get('/data.bin');
    expect(whole.status).toBe(200);
    expect(whole.headers.get('content-length')).toBe('3000000');
    expect(sha256(whole.body)).toBe(sha256(content));
    expect((await get('/a/')).body.toString()).toBe('<h1>from a volume</h1>');
    expect((await get('/none')).status).toBe(404);
    expect((await get('/..%2f..%2fvolume/volume.toml')).status).not.toBe(200);
  });

  test('gives ranges with 206, and 416 for those behind the end', async () => {
    for (const [range, begin, end] of [
      ['bytes=0-0', 0, 1],
      ['bytes=65535-65536', 65_535, 65_537],
      ['bytes=1000-1999', 1000, 2000],
      ['bytes=2999990-', 2_999_990, 3_000_000],
      ['bytes=2999990-9999999', 2_999_990, 3_000_000],
      ['bytes=-5', 2_999_995, 3_000_000],
    ] as const) {
      const part = await get('/data.bin', { range });
      expect({ range, status: part.status }).toEqual({ range, status: 206 });
      expect(part.headers.get('content-range')).toBe(`bytes ${begin}-${end - 1}/3000000`);
      expect(sha256(part.body)).toBe(sha256(content.subarray(begin, end)));
    }
    const behind = await get('/data.bin', { range: 'bytes=3000000-' });
    expect(behind.status).toBe(416);
    expect(behind.headers.get('content-range')).toBe('bytes */3000000');
  });

  test('answers whoever has it with 304, until it changes', async () => {
    const first = await get('/data.bin');
    const etag = first.headers.get('etag') ?? '';
    expect(etag).not.toBe('');
    const condition = { 'if-none-match': etag, 'cache-control': 'max-age=0' };
    expect(await get('/data.bin', condition)).toMatchObject({ status: 304, body: Buffer.alloc(0) });
    // Of another length and another second.
    await volume.fs.promises.writeFile('/public/data.bin', 'changed');
    await volume.fs.promises.utimes('/public/data.bin', 2e9, 2e9);
    const second = await get('/data.bin', condition);
    expect({ status: second.status, text: second.body.toString() }).toEqual({ status: 200, text: 'changed' });
  });

  test('serves many clients at once, those that hang up among them', async () => {
    const pieces = Array.from({ length: 48 }, (_, number) => {
      const begin = number * 60_000;
      return [begin, begin + 120_000] as const;
    });
    await Promise.all([
      ...pieces.map(async ([begin, end]) => {
        const part = await get('/data.bin', { range: `bytes=${begin}-${end - 1}` });
        expect(part.status).toBe(206);
        expect(sha256(part.body)).toBe(sha256(content.subarray(begin, end)));
      }),
      ...pieces.slice(0, 12).map(async () => {
        const leaving = new AbortController();
        const response = await fetch(`${url}/data.bin`, { signal: leaving.signal });
        leaving.abort();
        await expect(response.arrayBuffer()).rejects.toMatchObject({ name: 'AbortError' });
      }),
    ]);
    expect(sha256((await get('/data.bin')).body)).toBe(sha256(content));
  });
});
