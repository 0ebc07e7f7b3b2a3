import type * as nodeFs from 'node:fs';
import { constants } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { isDate, isNativeError } from 'node:util/types';
import type { VolumeFs } from 'verfs';

/** One of the two interfaces that are compared, in a directory of its own. */
export interface Subject {
  readonly fs: VolumeFs;
  readonly p: VolumeFs['promises'];
  /** The directory, and paths in it. */
  readonly at: (name?: string) => string;
}

/** What is done with both; what comes out of it, or is thrown, has to be the same. */
export type Case = (subject: Subject) => Promise<unknown>;

const shape = (stats: nodeFs.Stats | nodeFs.BigIntStats) => ({
  kinds: [
    stats.isFile(),
    stats.isDirectory(),
    stats.isSymbolicLink(),
    stats.isFIFO(),
    stats.isSocket(),
    stats.isBlockDevice(),
    stats.isCharacterDevice(),
  ],
  keys: Object.keys(stats),
  types: Object.values(stats).map((value) => (isDate(value) ? 'Date' : typeof value)),
  mode: stats.mode,
  nlink: stats.isDirectory() ? undefined : stats.nlink,
  uid: stats.uid,
  gid: stats.gid,
  size: stats.isDirectory() ? undefined : stats.size,
});

const named = (entries: readonly nodeFs.Dirent[], root: string) =>
  entries
    .map((entry) => [
      entry.name,
      entry.parentPath.replace(root, ''),
      entry.isDirectory(),
      entry.isFile(),
      entry.isSymbolicLink(),
    ])
    .sort();

async function tree({ p, at }: Subject): Promise<void> {
  await p.mkdir(at('d/e/f'), { recursive: true });
  await p.writeFile(at('file'), 'content\n');
  await p.writeFile(at('d/inner'), 'inner');
  await p.writeFile(at('d/e/deep'), 'deep');
  await p.symlink('file', at('link'));
  await p.symlink('d', at('dlink'));
  await p.symlink('nowhere', at('dangling'));
  await p.symlink('loop', at('loop'));
}

const collected = async (stream: NodeJS.ReadableStream) => {
  const parts: string[] = [];
  for await (const part of stream) {
    parts.push(String(part));
  }
  return parts;
};

const on =
  (work: (subject: Subject) => Promise<unknown>): Case =>
  async (subject) => {
    await tree(subject);
    return await work(subject);
  };

/** A call with callback, and what the callback got. */
const answer = (call: (done: (...results: unknown[]) => void) => void) =>
  new Promise((resolve) => {
    call((...results) =>
      resolve(results.map((result) => (isNativeError(result) ? { ...result, message: result.message } : result))),
    );
  });

// biome-ignore lint/suspicious/noExplicitAny: these are wrong on purpose
const wrong = (value: unknown) => value as any;
const noText = Object.create(null);

export const cases: Readonly<Record<string, Case>> = {
  'access of a file': on(({ p, at }) => p.access(at('file'))),
  'access of nothing': on(({ p, at }) => p.access(at('none'))),
  'access to execute a file': on(({ p, at }) => p.access(at('file'), constants.X_OK)),
  'access with a wrong mode': on(({ p, at }) => p.access(at('file'), 8)),
  'appendFile twice': on(async ({ p, at }) => {
    await p.appendFile(at('file'), 'more');
    await p.appendFile(at('new'), Buffer.from('first'));
    return [await p.readFile(at('file'), 'utf8'), await p.readFile(at('new'), 'latin1')];
  }),
  'appendFile to a directory': on(({ p, at }) => p.appendFile(at('d'), 'x')),
  chmod: on(async ({ p, at }) => {
    await p.chmod(at('file'), 0o4751);
    await p.chmod(at('d'), '1777');
    return [(await p.stat(at('file'))).mode, (await p.stat(at('d'))).mode];
  }),
  'chmod of nothing': on(({ p, at }) => p.chmod(at('none'), 0o600)),
  'chmod with a wrong mode': on(({ p, at }) => p.chmod(at('file'), 'rwx')),
  'chown to nobody and back': on(async ({ p, at }) => {
    const { uid, gid } = await p.stat(at('file'));
    await p.chown(at('file'), uid, gid);
    await p.lchown(at('link'), uid, gid);
    return await p.chown(at('none'), 1, 1);
  }),
  'chown with a wrong owner': on(({ p, at }) => p.chown(at('file'), -2, 0)),
  copyFile: on(async ({ p, at }) => {
    await p.chmod(at('file'), 0o640);
    await p.copyFile(at('file'), at('copy'));
    await p.copyFile(at('file'), at('copy'), constants.COPYFILE_FICLONE);
    return [await p.readFile(at('copy'), 'utf8'), (await p.stat(at('copy'))).mode];
  }),
  'copyFile onto a file of another mode': on(async ({ p, at }) => {
    await p.chmod(at('file'), 0o4751);
    await p.writeFile(at('copy'), 'older', { mode: 0o600 });
    await p.copyFile(at('file'), at('copy'));
    return [await p.readFile(at('copy'), 'utf8'), (await p.stat(at('copy'))).mode];
  }),
  'copyFile that must not replace': on(({ p, at }) => p.copyFile(at('file'), at('d/inner'), constants.COPYFILE_EXCL)),
  'copyFile of nothing': on(({ p, at }) => p.copyFile(at('none'), at('copy'))),
  'copyFile to nowhere': on(({ p, at }) => p.copyFile(at('file'), at('none/copy'))),
  'copyFile onto itself': on(async ({ p, at }) => {
    await p.copyFile(at('file'), at('link'));
    return await p.readFile(at('file'), 'utf8');
  }),
  'cp of a file': on(async ({ p, at }) => {
    await p.cp(at('file'), at('new/deep/copy'));
    return await p.readFile(at('new/deep/copy'), 'utf8');
  }),
  'cp of a tree': on(async ({ p, at }) => {
    await p.symlink('../file', at('d/up'));
    await p.cp(at('d'), at('copy'), { recursive: true, filter: (source) => !source.endsWith('deep') });
    const entries = await p.readdir(at('copy'), { recursive: true, withFileTypes: true });
    return [named(entries, at()), (await p.readlink(at('copy/up'))).replace(at(), '')];
  }),
  'cp of a directory that is not recursive': on(({ p, at }) => p.cp(at('d'), at('copy'))),
  'cp onto something': on(async ({ p, at }) => {
    await p.cp(at('file'), at('d/inner'), { force: false });
    return await p.readFile(at('d/inner'), 'utf8');
  }),
  'cp onto something that must not be': on(({ p, at }) =>
    p.cp(at('file'), at('d/inner'), { force: false, errorOnExist: true }),
  ),
  'cp into itself': on(({ p, at }) => p.cp(at('d'), at('d/e/x'), { recursive: true })),
  'cp of a directory onto a file': on(({ p, at }) => p.cp(at('d'), at('file'), { recursive: true })),
  'cp with times': on(async ({ p, at }) => {
    await p.utimes(at('file'), 1000, 2000);
    await p.cp(at('file'), at('copy'), { preserveTimestamps: true });
    return (await p.stat(at('copy'))).mtimeMs;
  }),
  'lchmod with a callback': on(async ({ fs }) => typeof Reflect.get(fs, 'lchmod')),
  'results are objects of its classes': on(async ({ fs, p, at }) => {
    const [entry] = await p.readdir(at(), { withFileTypes: true });
    return [(await p.stat(at())) instanceof fs.Stats, entry instanceof fs.Dirent];
  }),
  lchmod: on(({ p, at }) => p.lchmod(at('file'), 0o600)),
  link: on(async ({ p, at }) => {
    await p.link(at('file'), at('second'));
    const [a, b] = [await p.stat(at('file')), await p.stat(at('second'))];
    return [a.nlink, a.ino === b.ino, a.dev === b.dev];
  }),
  'link of a directory': on(({ p, at }) => p.link(at('d'), at('second'))),
  'link to what is there': on(({ p, at }) => p.link(at('file'), at('d/inner'))),
  'link of nothing': on(({ p, at }) => p.link(at('none'), at('second'))),
  'lstat of a link': on(async ({ p, at }) => shape(await p.lstat(at('link')))),
  'stat of a file': on(async ({ p, at }) => shape(await p.stat(at('file')))),
  'stat of a directory': on(async ({ p, at }) => shape(await p.stat(at('d')))),
  'stat of a link to a directory': on(async ({ p, at }) => shape(await p.stat(at('dlink')))),
  'stat in bigints': on(async ({ p, at }) => shape(await p.stat(at('file'), { bigint: true }))),
  'stat of nothing': on(({ p, at }) => p.stat(at('none'))),
  'stat through a file': on(({ p, at }) => p.stat(at('file/x'))),
  'stat of a file with a slash': on(({ p, at }) => p.stat(at('file/'))),
  'stat of a dangling link': on(({ p, at }) => p.stat(at('dangling'))),
  'stat of a loop': on(({ p, at }) => p.stat(at('loop'))),
  'stat of a long name': on(({ p, at }) => p.stat(at('x'.repeat(256)))),
  'stat of a long path': on(({ p, at }) => p.stat(at('x/'.repeat(3000)))),
  'stat of an empty path': on(({ p }) => p.stat('')),
  'stat with NUL': on(({ p, at }) => p.stat(at('a\0b'))),
  'stat of a number': on(({ p }) => p.stat(wrong(5))),
  'stat of null': on(({ p }) => p.stat(wrong(null))),
  'stat by Buffer': on(async ({ p, at }) => shape(await p.stat(Buffer.from(at('file'))))),
  'stat by a URL of the web': on(({ p }) => p.stat(new URL('http://example.org/'))),
  'stat with dots': on(async ({ p, at }) => shape(await p.stat(at('d/./e/../inner')))),
  'stat behind a link and dots': on(async ({ p, at }) => shape(await p.stat(at('dlink/../file')))),
  'times of a file': on(async ({ p, at }) => {
    await p.utimes(at('file'), new Date('2001-02-03T04:05:06.789Z'), 1_234_567_890.5);
    const { atime, mtime, atimeMs, mtimeMs } = await p.stat(at('file'));
    const big = await p.stat(at('file'), { bigint: true });
    return { atime, mtime, atimeMs, mtimeMs, ns: [big.mtimeNs, big.mtimeMs] };
  }),
  'times of a link': on(async ({ p, at }) => {
    await p.lutimes(at('link'), 10, '20');
    return [(await p.lstat(at('link'))).mtimeMs];
  }),
  'times before 1970 by Date': on(async ({ p, at }) => {
    await p.utimes(at('file'), new Date(-1500), new Date(-86_400_000));
    return (await p.stat(at('file'))).mtime;
  }),
  'times that are none': on(({ p, at }) => p.utimes(at('file'), wrong('now'), 0)),
  'utimes of nothing': on(({ p, at }) => p.utimes(at('none'), 1, 1)),
  mkdir: on(async ({ p, at }) => [await p.mkdir(at('new')), (await p.stat(at('new'))).mode]),
  'mkdir with a mode': on(async ({ p, at }) => {
    await p.mkdir(at('new'), 0o700);
    await p.mkdir(at('other'), { mode: '750' });
    return [(await p.stat(at('new'))).mode, (await p.stat(at('other'))).mode];
  }),
  'mkdir of what is there': on(({ p, at }) => p.mkdir(at('d'))),
  'mkdir of a file that is there': on(({ p, at }) => p.mkdir(at('file'))),
  'mkdir below nothing': on(({ p, at }) => p.mkdir(at('none/new'))),
  'mkdir below a file': on(({ p, at }) => p.mkdir(at('file/new'))),
  'mkdir recursive': on(async ({ p, at }) => (await p.mkdir(at('new/a/b'), { recursive: true }))?.replace(at(), '')),
  'mkdir recursive of what is there': on(({ p, at }) => p.mkdir(at('d/e'), { recursive: true })),
  'mkdir recursive of a file': on(({ p, at }) => p.mkdir(at('file'), { recursive: true })),
  'mkdir recursive below a file': on(({ p, at }) => p.mkdir(at('file/a/b'), { recursive: true })),
  'mkdir recursive with a wrong option': on(({ p, at }) => p.mkdir(at('x'), { recursive: wrong('yes') })),
  'mkdir with a slash': on(async ({ p, at }) => [await p.mkdir(at('new/')), (await p.readdir(at())).includes('new')]),
  mkdtemp: on(async ({ p, at }) => {
    const made = await p.mkdtemp(at('tmp-'));
    return [made.length - at('tmp-').length, (await p.stat(made)).mode];
  }),
  'mkdtemp below nothing': on(({ p, at }) =>
    p.mkdtemp(at('none/tmp-')).catch((error) => ({ code: error.code, length: error.path.length - at().length })),
  ),
  'open of nothing': on(({ p, at }) => p.open(at('none'))),
  'open of a directory to write': on(({ p, at }) => p.open(at('d'), 'w')),
  'open of what must be new': on(({ p, at }) => p.open(at('file'), 'wx')),
  'open of a dangling link that must be new': on(({ p, at }) => p.open(at('dangling'), 'wx')),
  'open through a dangling link makes its target': on(async ({ p, at }) => {
    await (await p.open(at('dangling'), 'w')).close();
    return (await p.readdir(at())).sort();
  }),
  'open with wrong flags': on(({ p, at }) => p.open(at('file'), 'rw')),
  'open with O_DIRECTORY': on(({ p, at }) => p.open(at('file'), constants.O_DIRECTORY)),
  'open with O_NOFOLLOW': on(({ p, at }) => p.open(at('link'), constants.O_NOFOLLOW)),
  'open with a slash': on(({ p, at }) => p.open(at('new/'), 'w')),
  'a handle reads and writes at positions': on(async ({ p, at }) => {
    const handle = await p.open(at('rw'), 'w+');
    const out: unknown[] = [];
    out.push((await handle.write('hello')).bytesWritten, (await handle.write('HE', 0)).bytesWritten);
    out.push((await handle.write(Buffer.from('-world-'), 1, 5, 10)).bytesWritten);
    const buffer = Buffer.alloc(8, '.');
    out.push((await handle.read(buffer, 2, 4, 0)).bytesRead, buffer.toString());
    out.push((await handle.read({ buffer, position: 10 })).bytesRead, buffer.toString());
    out.push((await handle.read(buffer, 0, 8, null)).bytesRead, buffer.toString('latin1'));
    out.push((await handle.writev([Buffer.from('a'), new Uint8Array([98, 99])])).bytesWritten);
    const parts = [Buffer.alloc(2), Buffer.alloc(3)];
    out.push((await handle.readv(parts, 1)).bytesRead, String(parts[0]), String(parts[1]));
    await handle.truncate(3);
    out.push((await handle.stat()).size);
    await handle.chmod(0o604);
    await handle.utimes(1, 2);
    await handle.sync();
    await handle.datasync();
    out.push((await handle.stat()).mode, (await handle.stat()).mtimeMs);
    await handle.close();
    out.push(handle.fd, await p.readFile(at('rw'), 'utf8'));
    return out;
  }),
  'a handle that is closed': on(async ({ p, at }) => {
    const handle = await p.open(at('file'));
    await handle.close();
    await handle.close();
    return await handle.stat();
  }),
  'a handle for reading writes': on(async ({ p, at }) => {
    const handle = await p.open(at('file'));
    try {
      return await handle.write('x');
    } finally {
      await handle.close();
    }
  }),
  'a handle for writing reads': on(async ({ p, at }) => {
    const handle = await p.open(at('file'), 'a');
    try {
      return await handle.read();
    } finally {
      await handle.close();
    }
  }),
  'a handle for reading truncates': on(async ({ p, at }) => {
    const handle = await p.open(at('file'));
    try {
      return await handle.truncate(1);
    } finally {
      await handle.close();
    }
  }),
  'a handle appends wherever it writes': on(async ({ p, at }) => {
    const handle = await p.open(at('file'), 'a+');
    await handle.write('X', 0);
    await handle.appendFile('Y');
    await handle.close();
    return await p.readFile(at('file'), 'utf8');
  }),
  'a handle reads on': on(async ({ p, at }) => {
    const handle = await p.open(at('file'));
    await handle.read(Buffer.alloc(3), 0, 3);
    const rest = await handle.readFile('utf8');
    await handle.close();
    return rest;
  }),
  'a handle reads with wrong arguments': on(async ({ p, at }) => {
    const handle = await p.open(at('file'));
    try {
      return await handle.read(Buffer.alloc(4), 2, 9, 0);
    } finally {
      await handle.close();
    }
  }),
  'lines of a handle': on(async ({ p, at }) => {
    await p.writeFile(at('lines'), 'one\ntwo\r\nthree');
    const handle = await p.open(at('lines'));
    const lines: string[] = [];
    for await (const line of handle.readLines()) {
      lines.push(line);
    }
    return [lines, handle.fd];
  }),
  'a file that is unlinked while it is open': on(async ({ p, at }) => {
    const handle = await p.open(at('file'), 'r+');
    await p.unlink(at('file'));
    await handle.write('C', 0);
    const text = await handle.readFile('utf8');
    const { nlink } = await handle.stat();
    await handle.close();
    return [text, nlink];
  }),
  'opendir, entry by entry': on(async ({ p, at }) => {
    const dir = await p.opendir(at());
    const names: string[] = [];
    for await (const entry of dir) {
      names.push(entry.name);
    }
    return names.sort();
  }),
  'opendir recursive': on(async ({ p, at }) => {
    const entries: nodeFs.Dirent[] = [];
    for await (const entry of await p.opendir(at(), { recursive: true, bufferSize: 2 })) {
      entries.push(entry);
    }
    return named(entries, at());
  }),
  'opendir of a file': on(({ p, at }) => p.opendir(at('file'))),
  'a directory that is closed twice': on(async ({ p, at }) => {
    const dir = await p.opendir(at());
    await dir.close();
    return await dir.close();
  }),
  readdir: on(async ({ p, at }) => (await p.readdir(at())).sort()),
  'readdir with types': on(async ({ p, at }) => named(await p.readdir(at(), { withFileTypes: true }), at())),
  'readdir recursive': on(async ({ p, at }) => (await p.readdir(at(), { recursive: true })).sort()),
  'readdir recursive with types': on(async ({ p, at }) =>
    named(await p.readdir(at(), { recursive: true, withFileTypes: true }), at()),
  ),
  'readdir in Buffers': on(async ({ p, at }) => (await p.readdir(at(), 'buffer')).map(String).sort()),
  'readdir in hex': on(async ({ p, at }) => (await p.readdir(at(), 'hex')).sort()),
  'readdir of a file': on(({ p, at }) => p.readdir(at('file'))),
  'readdir of nothing': on(({ p, at }) => p.readdir(at('none'))),
  'readdir with a wrong encoding': on(({ p, at }) => p.readdir(at(), wrong('klingon'))),
  'readdir with an encoding that has no text': on(({ p, at }) => p.readdir(at(), { encoding: wrong(noText) })),
  'readFile in encodings': on(async ({ p, at }) => [
    await p.readFile(at('file')),
    await p.readFile(at('file'), 'base64'),
    await p.readFile(at('file'), { encoding: 'ucs2' }),
    await p.readFile(at('link'), { encoding: 'utf8', flag: 'r+' }),
  ]),
  'readFile of a directory': on(({ p, at }) => p.readFile(at('d'))),
  'readFile of nothing': on(({ p, at }) => p.readFile(at('none'))),
  'readFile that makes the file': on(async ({ p, at }) => [await p.readFile(at('new'), { flag: 'a+' })]),
  'readFile of a large file': on(async ({ p, at }) => {
    const content = Buffer.alloc(9_000_001, 'verfs ');
    await p.writeFile(at('large'), content);
    return (await p.readFile(at('large'))).equals(content);
  }),
  'readFile with a signal that fired': on(({ p, at }) => p.readFile(at('file'), { signal: AbortSignal.abort() })),
  'readFile with a wrong signal': on(({ p, at }) => p.readFile(at('file'), { signal: wrong('x') })),
  readlink: on(async ({ p, at }) => [await p.readlink(at('link')), await p.readlink(at('dlink'), 'buffer')]),
  'readlink of a file': on(({ p, at }) => p.readlink(at('file'))),
  realpath: on(async ({ p, at }) => (await p.realpath(at('dlink/../dlink/e'))).replace(await p.realpath(at()), '')),
  'realpath of nothing': on(({ p, at }) => p.realpath(at('none'))),
  rename: on(async ({ p, at }) => {
    await p.rename(at('file'), at('d/moved'));
    await p.rename(at('d'), at('dir'));
    return (await p.readdir(at(), { recursive: true })).sort();
  }),
  'rename over a file': on(async ({ p, at }) => {
    await p.rename(at('file'), at('d/inner'));
    return await p.readFile(at('d/inner'), 'utf8');
  }),
  'rename of nothing': on(({ p, at }) => p.rename(at('none'), at('x'))),
  'rename of a directory over a file': on(({ p, at }) => p.rename(at('d'), at('file'))),
  'rename of a file over a directory': on(({ p, at }) => p.rename(at('file'), at('d'))),
  'rename over a directory with entries': on(({ p, at }) => p.rename(at('d/e'), at('d'))),
  'rename of a directory into itself': on(({ p, at }) => p.rename(at('d'), at('d/e/x'))),
  'rename of a file to a name with a slash': on(({ p, at }) => p.rename(at('file'), at('x/'))),
  'rm of a file': on(async ({ p, at }) => [await p.rm(at('file')), (await p.readdir(at())).sort()]),
  'rm of a tree': on(async ({ p, at }) => [await p.rm(at('d'), { recursive: true }), (await p.readdir(at())).sort()]),
  'rm of a link to a tree': on(async ({ p, at }) => [
    await p.rm(at('dlink'), { recursive: true }),
    (await p.readdir(at('d'))).sort(),
  ]),
  'rm of nothing': on(({ p, at }) => p.rm(at('none'))),
  'rm of nothing by force': on(({ p, at }) => p.rm(at('none/at/all'), { force: true, recursive: true })),
  'rm of a directory': on(({ p, at }) => p.rm(at('d'))),
  'rm with a wrong option': on(({ p, at }) => p.rm(at('d'), { force: wrong(1) })),
  rmdir: on(async ({ p, at }) => [await p.rmdir(at('d/e/f')), await p.readdir(at('d/e'))]),
  'rmdir of a directory with entries': on(({ p, at }) => p.rmdir(at('d'))),
  'rmdir of a file': on(({ p, at }) => p.rmdir(at('file'))),
  'rmdir of a dot': on(({ p, at }) => p.rmdir(at('d/.'))),
  'rmdir of two dots': on(({ p, at }) => p.rmdir(at('d/e/..'))),
  'symlink to what is there': on(({ p, at }) => p.symlink('x', at('file'))),
  'symlink of a long target': on(({ p, at }) => p.symlink('x'.repeat(5000), at('long'))),
  'symlink of an empty target': on(({ p, at }) => p.symlink('', at('empty'))),
  truncate: on(async ({ p, at }) => {
    await p.truncate(at('file'), 3);
    await p.truncate(at('d/inner'), 7);
    return [await p.readFile(at('file'), 'utf8'), await p.readFile(at('d/inner'), 'latin1')];
  }),
  'truncate of nothing': on(({ p, at }) => p.truncate(at('none'))),
  'truncate of a directory': on(({ p, at }) => p.truncate(at('d'))),
  unlink: on(async ({ p, at }) => [await p.unlink(at('link')), (await p.readdir(at())).sort()]),
  'unlink of a directory': on(({ p, at }) => p.unlink(at('d'))),
  'unlink of nothing': on(({ p, at }) => p.unlink(at('none'))),
  'unlink of a file with a slash': on(({ p, at }) => p.unlink(at('file/'))),
  'writeFile of every kind of data': on(async ({ p, at }) => {
    await p.writeFile(at('a'), new Uint16Array([0x6161, 0x6262]));
    await p.writeFile(at('b'), new DataView(new ArrayBuffer(2)));
    await p.writeFile(at('c'), Readable.from(['x', Buffer.from('y')]));
    await p.writeFile(at('d/inner'), ['one', 'two'], { flag: 'a' });
    await p.writeFile(at('e'), 'w6Q=', 'base64');
    await p.writeFile(at('f'), 'mode', { mode: 0o600, flush: true } as nodeFs.ObjectEncodingOptions);
    const read = async (name: string) => (await p.readFile(at(name))).toString('hex');
    return [await Promise.all(['a', 'b', 'c', 'd/inner', 'e'].map(read)), (await p.stat(at('f'))).mode];
  }),
  'writeFile of wrong data': on(({ p, at }) => p.writeFile(at('a'), wrong(5))),
  'writeFile of an object': on(({ p, at }) => p.writeFile(at('a'), wrong({}))),
  'writeFile of a stream of objects': on(({ p, at }) => p.writeFile(at('a'), Readable.from([{ a: 1 }]))),
  'writeFile below nothing': on(({ p, at }) => p.writeFile(at('none/a'), 'x')),
  'writeFile to a directory': on(({ p, at }) => p.writeFile(at('d'), 'x')),
  'writeFile that must be new': on(({ p, at }) => p.writeFile(at('file'), 'x', { flag: 'wx' })),
  'writeFile with a signal that fired': on(({ p, at }) => p.writeFile(at('a'), 'x', { signal: AbortSignal.abort() })),
  'a handle writes with encodings that are none': on(async ({ p, at }) => {
    await using handle = await p.open(at('file'), 'w+');
    for (const none of [noText, 'klingon', 5, null, ['hex']]) {
      await handle.write('6a', null, wrong(none));
    }
    await handle.write('6a', null, wrong('HEX'));
    return p.readFile(at('file'), 'utf8');
  }),
  'a handle writes half a byte': on(async ({ p, at }) => {
    await using handle = await p.open(at('file'), 'w');
    await handle.write('6a6', null, 'hex');
  }),
  'writeFile with wrong flags': on(({ p, at }) => p.writeFile(at('a'), 'x', { flag: 'q' })),
  'writeFile shortens': on(async ({ p, at }) => [
    await p.writeFile(at('file'), 'x'),
    await p.readFile(at('file'), 'utf8'),
  ]),
  'writeFile to a handle goes on': on(async ({ p, at }) => {
    const handle = await p.open(at('a'), 'w');
    await handle.writeFile('one');
    await p.writeFile(handle, 'two');
    await handle.close();
    return await p.readFile(at('a'), 'utf8');
  }),

  'streams with ranges': on(async ({ fs, at }) => [
    await collected(fs.createReadStream(at('file'), { start: 2, end: 4, encoding: 'utf8' })),
    await collected(fs.createReadStream(at('file'), { highWaterMark: 3, encoding: 'latin1' })),
  ]),
  'a stream of nothing': on(({ fs, at }) => collected(fs.createReadStream(at('none')))),
  'a stream of a directory': on(({ fs, at }) => collected(fs.createReadStream(at('d')))),
  'a stream to a directory': on(({ fs, at }) => pipeline(Readable.from(['x']), fs.createWriteStream(at('d')))),
  'a stream that writes': on(async ({ fs, p, at }) => {
    const stream = fs.createWriteStream(at('out'), { highWaterMark: 4 });
    await pipeline(Readable.from(['one', 'two', 'three']), stream);
    await pipeline(Readable.from(['X']), fs.createWriteStream(at('out'), { flags: 'r+', start: 3 }));
    return [await p.readFile(at('out'), 'utf8'), stream.bytesWritten, stream.closed];
  }),
  'a stream of a handle': on(async ({ p, at }) => {
    const handle = await p.open(at('file'));
    const parts = await collected(handle.createReadStream({ start: 1, encoding: 'utf8' }));
    return [parts, handle.fd];
  }),
  'a stream with wrong bounds': on(async ({ fs, at }) => fs.createReadStream(at('file'), { start: 5, end: 2 })),
  'a stream with a signal': on(async ({ fs, at }) => {
    const stop = new AbortController();
    const stream = fs.createReadStream(at('file'), { signal: stop.signal });
    stop.abort();
    return await collected(stream);
  }),

  'watchFile tells of changes, and unwatchFile ends that': on(async ({ fs, p, at }) => {
    const seen: unknown[] = [];
    const watched = new Promise<void>((resolve) => {
      fs.watchFile(at('file'), { interval: 20 }, (now, before) => {
        seen.push([now.size, before.size, now.isFile()]);
        fs.unwatchFile(at('file'));
        resolve();
      });
    });
    // Longer than a look takes.
    await new Promise((resolve) => setTimeout(resolve, 500));
    await p.appendFile(at('file'), ' and more');
    await watched;
    await p.appendFile(at('file'), '!');
    await new Promise((resolve) => setTimeout(resolve, 100));
    return seen;
  }),
  'watchFile of what is not there': on(async ({ fs, p, at }) => {
    const seen: unknown[] = [];
    const told = (count: number) =>
      new Promise<void>((resolve) => {
        const look = () => (seen.length >= count ? resolve() : setTimeout(look, 10));
        look();
      });
    const listener = (now: nodeFs.BigIntStats, before: nodeFs.BigIntStats) =>
      seen.push([now.nlink, now.mtimeNs === 0n, before.nlink, before.ino === 0n]);
    fs.watchFile(at('later'), { interval: 20, bigint: true }, listener);
    await told(1);
    await p.writeFile(at('later'), '');
    await told(2);
    fs.unwatchFile(at('later'), () => undefined);
    await p.unlink(at('later'));
    await told(3);
    fs.unwatchFile(at('later'), listener as never);
    return seen;
  }),
  'watchFile without a listener': on(async ({ fs, at }) => wrong(fs.watchFile)(at('file'), {})),
  'a blob': on(async ({ fs, at }) => {
    const blob = await fs.openAsBlob(at('file'), { type: 'text/plain' });
    const part = blob.slice(1, -1, 'a/b');
    const pieces: Uint8Array[] = [];
    for await (const piece of part.stream()) {
      pieces.push(piece as Uint8Array);
    }
    return [
      [blob.size, blob.type, await blob.text()],
      [part.size, part.type, String(Buffer.concat(pieces)), (await part.arrayBuffer()).byteLength],
      [blob.slice(5, 2).size, await blob.slice(-3).text(), await blob.slice(1, 99).slice(1).text()],
    ];
  }),
  'a blob of a file that changed since': on(async ({ fs, p, at }) => {
    const blob = await fs.openAsBlob(at('file'));
    await p.appendFile(at('file'), 'more');
    return await blob.text().catch((error: Error) => error.name);
  }),
  'a blob of what is not there': on(async ({ fs, at }) => {
    // Node throws.
    const open = async () => await fs.openAsBlob(at('none'));
    return await open().catch((error: NodeJS.ErrnoException) => error.code);
  }),
  'callbacks: realpath.native': on(({ fs, at }) =>
    answer((done) => fs.realpath.native(at('d/..'), (error, path) => done(error, path.replace(at(), '')))),
  ),

  'callbacks: stat': on(({ fs, at }) =>
    answer((done) => fs.stat(at('file'), (error, stats) => done(error, stats?.size))),
  ),
  'callbacks: an error': on(({ fs, at }) => answer((done) => fs.readFile(at('none'), done))),
  'callbacks: readFile with options': on(({ fs, at }) => answer((done) => fs.readFile(at('file'), 'utf8', done))),
  'callbacks: mkdir recursive': on(({ fs, at }) =>
    answer((done) => fs.mkdir(at('x/y'), { recursive: true }, (error, made) => done(error, made?.replace(at(), '')))),
  ),
  'callbacks: exists': on(async ({ fs, at }) => [
    await answer((done) => fs.exists(at('file'), done)),
    await promisify(fs.exists)(at('none')),
  ]),
  'callbacks: open, write, read, close': on(async ({ fs, at }) => {
    const file = await promisify(fs.open)(at('cb'), 'w+');
    const written = await promisify(fs.write)(file, Buffer.from('callback'));
    const read = await promisify(fs.read)(file, Buffer.alloc(4), 0, 4, 2);
    const size = (await promisify(fs.fstat)(file)).size;
    await promisify(fs.ftruncate)(file, 2);
    await promisify(fs.fsync)(file);
    await promisify(fs.close)(file);
    return [written.bytesWritten, String(read.buffer), size];
  }),
  'callbacks: a closed number': on(({ fs }) => answer((done) => fs.fstat(2 ** 30 + 2 ** 20, done))),
  'callbacks: without a callback': on(async ({ fs, at }) => wrong(fs.stat)(at('file'))),
  'callbacks: a wrong path': on(async ({ fs }) => wrong(fs.stat)(5, () => undefined)),
};
