import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { TarArchive } from 'archiver';
import git from 'isomorphic-git';
import http from 'isomorphic-git/http/node';
import { extract, pack } from 'tar-stream';
import { Volume, type VolumeFs } from 'verfs';
import { run } from '../harness/command.ts';
import { detachBelow } from '../harness/mounts.ts';
import { sandboxPrefix } from '../harness/sandbox.ts';

/** Programs of others, unmodified, over the files of a volume. */
describe('tools of others work over volume.fs', () => {
  let root: string;
  let volume: Volume;
  let fs: VolumeFs;
  let server: Server | undefined;

  beforeEach(async () => {
    root = mkdtempSync(join(tmpdir(), sandboxPrefix));
    await Volume.create(join(root, 'volume'));
    volume = await Volume.open(join(root, 'volume'));
    fs = volume.fs;
  });

  afterEach(async () => {
    server?.closeAllConnections();
    server?.close();
    server = undefined;
    await volume.close();
    await detachBelow(root);
    rmSync(root, { recursive: true, force: true });
  });

  async function listening(handler: Parameters<typeof createServer>[1]): Promise<string> {
    server = createServer(handler as Parameters<typeof createServer>[0]);
    await new Promise<void>((resolve) => server?.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  /** Mounts the volume and lets git check a repository in it. */
  async function fsck(directory: string): Promise<void> {
    const mountpoint = join(root, 'mnt');
    mkdirSync(mountpoint);
    await volume.mount(mountpoint);
    const git = (...args: string[]) => run('git', ['-C', join(mountpoint, directory), ...args]);
    expect(await git('fsck', '--full', '--strict')).toMatchObject({ code: 0 });
    expect(await git('status', '--porcelain')).toMatchObject({ code: 0, stdout: '' });
    await volume.unmount();
  }

  test('isomorphic-git makes a repository that git finds whole', async () => {
    const dir = '/repository';
    const author = { name: 'Test', email: 'test@example.org' };
    await fs.promises.mkdir(`${dir}/src`, { recursive: true });
    await git.init({ fs, dir, defaultBranch: 'main' });
    await fs.promises.writeFile(`${dir}/src/one.txt`, 'one\n');
    await fs.promises.writeFile(`${dir}/binary`, randomBytes(100_000));
    await git.add({ fs, dir, filepath: '.' });
    const first = await git.commit({ fs, dir, author, message: 'first' });
    await git.branch({ fs, dir, ref: 'other' });
    await fs.promises.writeFile(`${dir}/src/one.txt`, 'two\n');
    await fs.promises.rm(`${dir}/binary`);
    await git.remove({ fs, dir, filepath: 'binary' });
    await git.add({ fs, dir, filepath: 'src/one.txt' });
    await git.commit({ fs, dir, author, message: 'second' });
    expect((await git.log({ fs, dir })).map(({ commit }) => commit.message)).toEqual(['second\n', 'first\n']);
    await git.checkout({ fs, dir, ref: 'other' });
    expect(await fs.promises.readFile(`${dir}/src/one.txt`, 'utf8')).toBe('one\n');
    expect(await git.resolveRef({ fs, dir, ref: 'HEAD' })).toBe(first);
    expect(
      (await git.statusMatrix({ fs, dir })).every(([, head, work, stage]) => head === 1 && work === 1 && stage === 1),
    ).toBe(true);
    await fsck('repository');
  });

  test('isomorphic-git clones from a server', async () => {
    const origin = join(root, 'origin');
    mkdirSync(origin);
    const inOrigin = async (...args: string[]) => {
      const name = ['-c', 'user.name=T', '-c', 'user.email=t@example.org'];
      expect(await run('git', ['-C', origin, ...name, ...args])).toMatchObject({ code: 0 });
    };
    await inOrigin('init', '-q', '-b', 'main');
    for (let number = 0; number < 20; number += 1) {
      mkdirSync(join(origin, `d${number % 5}`), { recursive: true });
      writeFileSync(join(origin, `d${number % 5}`, `file-${number}`), randomBytes(2000).toString('hex'));
      await inOrigin('add', '.');
      await inOrigin('commit', '-qm', `commit ${number}`);
    }
    const url = await listening((request, response) => {
      const { pathname, searchParams } = new URL(request.url ?? '/', 'http://localhost');
      const env = {
        ...process.env,
        GIT_PROJECT_ROOT: root,
        GIT_HTTP_EXPORT_ALL: '1',
        PATH_INFO: pathname,
        QUERY_STRING: searchParams.toString(),
        REQUEST_METHOD: request.method ?? 'GET',
        CONTENT_TYPE: request.headers['content-type'] ?? '',
      } as Record<string, string>;
      backend(request, response, env);
    });
    await git.clone({ fs, http, dir: '/clone', url: `${url}/origin/.git`, singleBranch: true });
    expect((await git.log({ fs, dir: '/clone' })).length).toBe(20);
    expect((await fs.promises.readdir('/clone', { recursive: true })).filter((name) => /file-/.test(name)).length).toBe(
      20,
    );
    await fsck('clone');
  });

  test('tar-stream and archiver write and read it, byte for byte', async () => {
    const contents = new Map([
      ['tree/a.txt', Buffer.from('a')],
      ['tree/sub/large.bin', randomBytes(3_000_000)],
      ['tree/empty', Buffer.alloc(0)],
    ]);
    for (const [name, content] of contents) {
      await fs.promises.mkdir(`/${name.slice(0, name.lastIndexOf('/'))}`, { recursive: true });
      await fs.promises.writeFile(`/${name}`, content);
    }
    const archive = new TarArchive({});
    for (const name of contents.keys()) {
      archive.append(fs.createReadStream(`/${name}`), { name });
    }
    await Promise.all([archive.finalize(), pipeline(archive, fs.createWriteStream('/by-archiver.tar'))]);
    const packer = pack();
    const packed = pipeline(packer, fs.createWriteStream('/by-tar-stream.tar'));
    for (const [name, content] of contents) {
      const entry = packer.entry({ name, size: content.length });
      await pipeline(fs.createReadStream(`/${name}`), entry);
    }
    packer.finalize();
    await packed;
    for (const file of ['/by-archiver.tar', '/by-tar-stream.tar']) {
      const out = `/out${file.replace('.tar', '')}`;
      const extractor = extract();
      const reading = pipeline(fs.createReadStream(file), extractor);
      for await (const entry of extractor) {
        const path = `${out}/${entry.header.name}`;
        await fs.promises.mkdir(path.slice(0, path.lastIndexOf('/')), { recursive: true });
        await pipeline(entry, fs.createWriteStream(path));
      }
      await reading;
      for (const [name, content] of contents) {
        expect((await fs.promises.readFile(`${out}/${name}`)).equals(content)).toBe(true);
      }
    }
    const listed = await run('tar', ['-tf', '-'], {
      input: (await fs.promises.readFile('/by-tar-stream.tar')).toString('latin1'),
    });
    expect(listed.stdout.split('\n')[0]).toBe('tree/a.txt');
  });

  /** git's own server of repositories (git-http-backend(1)), as a CGI program. */
  function backend(
    request: import('node:http').IncomingMessage,
    response: import('node:http').ServerResponse,
    env: Record<string, string>,
  ): void {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', async () => {
      const { spawn } = await import('node:child_process');
      const program = spawn('git', ['http-backend'], { env });
      const output: Buffer[] = [];
      program.stdout.on('data', (part: Buffer) => output.push(part));
      program.on('close', () => {
        const all = Buffer.concat(output);
        const split = all.indexOf('\r\n\r\n');
        for (const line of all.subarray(0, split).toString().split('\r\n')) {
          const [name = '', value = ''] = line.split(': ');
          if (name === 'Status') {
            response.statusCode = Number.parseInt(value, 10);
          } else {
            response.setHeader(name, value);
          }
        }
        response.end(all.subarray(split + 4));
      });
      Readable.from(parts).pipe(program.stdin);
    });
  }
});
