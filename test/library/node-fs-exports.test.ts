import * as nodeFs from 'node:fs';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import * as nodePromises from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Volume } from 'verfs';
import { repository, sandboxPrefix } from '../harness/sandbox.ts';

const blocking = 'they would have to stop JavaScript while a thread of the addon works';

/** What Node exports, in some version, and a volume does not: why. docs/EMBEDDING.md names each. */
const missing: Readonly<Record<string, string>> = {
  _toUnixTimestamp: "is Node's own, and not documented",
  default: 'is the module itself',
  glob: 'is of Node 22: packages that find files take an `fs`',
  globSync: blocking,
  mkdtempDisposable: 'is of Node 24',
  mkdtempDisposableSync: blocking,
  Utf8Stream: 'is of Node 24, and writes with functions that block',
};

/** The same of what an open file has. */
const missingOfHandles: Readonly<Record<string, string>> = {
  getAsyncId: 'is of async_hooks, which know files of the system',
  pull: 'is of Node 25',
  pullSync: blocking,
  writer: 'is of Node 25',
};

/** And of an open directory. */
const missingOfDirectories: Readonly<Record<string, string>> = {
  readSync: blocking,
  closeSync: blocking,
  // Not documented: parts of Node's own.
  processReadResult: "is Node's own, and not documented",
  readSyncRecursive: blocking,
};

type Exports = Readonly<Record<string, unknown>>;

/** Names that are there and mean something: some functions of other systems have a name on Linux, and no more. */
const namesOf = (of: Exports) => Object.keys(of).filter((name) => of[name] !== undefined);

const methodsOf = (value: object) => {
  const prototype = Object.getPrototypeOf(value) as object;
  return Object.getOwnPropertyNames(prototype).filter((name) => name !== 'constructor');
};

describe('of what Node exports', () => {
  let root: string;
  let volume: Volume;

  beforeAll(async () => {
    root = mkdtempSync(join(tmpdir(), sandboxPrefix));
    await Volume.create(join(root, 'volume'));
    volume = await Volume.open(join(root, 'volume'));
    await volume.fs.promises.writeFile('/file', '');
    writeFileSync(join(root, 'file'), '');
  });

  afterAll(async () => {
    await volume.close();
    rmSync(root, { recursive: true, force: true });
  });

  /** Names that only one side has, of which exceptions tell. */
  function compare(
    ofNode: readonly string[],
    here: (name: string) => unknown,
    node: (name: string) => unknown,
  ): string[] {
    const isException = (name: string) =>
      name.endsWith('Sync') || [missing, missingOfHandles, missingOfDirectories].some((of) => Object.hasOwn(of, name));
    expect(ofNode.length).toBeGreaterThan(3);
    return ofNode.flatMap((name) => {
      if (isException(name)) {
        return here(name) === undefined ? [] : [`${name} is there, and is said to be missing`];
      }
      const [wanted, found] = [typeof node(name), typeof here(name)];
      return wanted === found ? [] : [`${name} is ${wanted} in Node and ${found} here`];
    });
  }

  test.each([
    ['node:fs', nodeFs as Exports, () => volume.fs as unknown as Exports],
    ['node:fs/promises', nodePromises as Exports, () => volume.fs.promises as unknown as Exports],
  ] as const)('%s has nothing that is missing here without a reason', (_, node, of) => {
    const here = of();
    const names = namesOf((node['default'] ?? node) as Exports);
    expect(names).toContain('readFile');
    expect(
      compare(
        names,
        (name) => here[name],
        (name) => ((node['default'] ?? node) as Exports)[name],
      ),
    ).toEqual([]);
  });

  test('open files and directories have all, but for reasons', async () => {
    const [node, here] = [await nodePromises.open(join(root, 'file')), await volume.fs.promises.open('/file')];
    const [nodeDir, dir] = [await nodePromises.opendir(root), await volume.fs.promises.opendir('/')];
    const pairs = [
      [node, here],
      [nodeDir, dir],
      [nodeFs.createReadStream(join(root, 'file')), volume.fs.createReadStream('/file')],
    ] as const;
    try {
      for (const [ofNode, ours] of pairs) {
        const of = (value: object) => (name: string) => (value as Exports)[name];
        expect(compare(methodsOf(ofNode), of(ours), of(ofNode))).toEqual([]);
      }
    } finally {
      await Promise.all([node.close(), here.close(), nodeDir.close(), dir.close()]);
    }
  });

  test('every reason is in docs/EMBEDDING.md', () => {
    const guide = readFileSync(join(repository, 'docs/EMBEDDING.md'), 'utf8');
    const names = [missing, missingOfHandles, missingOfDirectories].flatMap((of) => Object.keys(of));
    const told = names.filter((name) => !name.endsWith('Sync') && name !== 'default');
    expect(told.filter((name) => !guide.includes(`\`${name}\``))).toEqual([]);
    expect(guide).toContain('`readFileSync`');
  });

  test('classes are those that its functions give', async () => {
    const { fs } = volume;
    const own = fs as unknown as Record<'Dir' | 'FileReadStream' | 'FileWriteStream', new (path: string) => object>;
    const reader = fs.createReadStream('/file');
    const writer = new own.FileWriteStream('/written');
    const directory = await fs.promises.opendir('/');
    expect(reader).toBeInstanceOf(fs.ReadStream);
    expect(reader).toBeInstanceOf(nodeFs.ReadStream);
    expect(writer).toBeInstanceOf(fs.WriteStream);
    expect(directory).toBeInstanceOf(own.Dir);
    expect(await fs.promises.stat('/file')).toBeInstanceOf(fs.Stats);
    for await (const entry of directory) {
      expect(entry).toBeInstanceOf(fs.Dirent);
    }
    // A class is one of the volume's files, not of the system's.
    const ended = new Promise((resolve) => (writer as nodeFs.WriteStream).end('text', resolve as () => void));
    await ended;
    expect(await fs.promises.readFile('/written', 'utf8')).toBe('text');
    expect(nodeFs.existsSync('/written')).toBe(false);
  });
});
