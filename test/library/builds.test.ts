import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { type BuildOptions, build, type Plugin } from 'esbuild';
import { type RollupOptions, rollup } from 'rollup';
import { Volume, type VolumeFs } from 'verfs';
import { run } from '../harness/command.ts';
import { detachBelow } from '../harness/mounts.ts';
import { repository, sandboxPrefix } from '../harness/sandbox.ts';

/** A project: modules that import each other, data, a link, a part that is loaded later, and a package. */
const project: Readonly<Record<string, string>> = {
  'package.json': '{ "name": "project", "type": "module" }\n',
  'src/main.js': [
    "import { shout } from './words.js';",
    "import { total } from './numbers/index.js';",
    "import { greeting } from 'greeter';",
    'export const said = shout(`$' + '{greeting} $' + '{total}`);',
    "export const later = () => import('./later.js').then((part) => part.late);",
    '',
  ].join('\n'),
  'src/words.js':
    'export const shout = (text) => `$' + '{text.toUpperCase()}!`;\nexport const unused = () => "dead";\n',
  'src/numbers/index.js': "export * from './sum.js';\n",
  'src/numbers/sum.js': [
    ...Array.from({ length: 40 }, (_, number) => `import { n${number} } from './n${number}.js';`),
    `export const total = [${Array.from({ length: 40 }, (_, number) => `n${number}`).join(', ')}].reduce((a, b) => a + b);`,
    '',
  ].join('\n'),
  ...Object.fromEntries(
    Array.from({ length: 40 }, (_, number) => [`src/numbers/n${number}.js`, `export const n${number} = ${number};\n`]),
  ),
  'src/later.js': "import { shout } from './words.js';\nexport const late = shout('late');\n",
  'node_modules/greeter/package.json': '{ "name": "greeter", "type": "module", "main": "greeter.js" }\n',
  'node_modules/greeter/greeter.js': "export const greeting = 'grüße';\n",
};

/** What a build wrote, by name. */
type Built = Readonly<Record<string, string>>;

function readBuilt(directory: string): Built {
  const names = readdirSync(directory, { recursive: true, encoding: 'utf8' });
  const files = names.filter((name) => statSync(join(directory, name)).isFile()).sort();
  return Object.fromEntries(files.map((name) => [name, readFileSync(join(directory, name), 'utf8')]));
}

async function readBuiltIn(fs: VolumeFs, directory: string): Promise<Built> {
  const names = await fs.promises.readdir(directory, { recursive: true, withFileTypes: true });
  const paths = names.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const entries = paths
    .sort()
    .map(async (path) => [path.slice(directory.length + 1), await fs.promises.readFile(path, 'utf8')] as const);
  return Object.fromEntries(await Promise.all(entries));
}

/** The program of a package, as `npx` would run it. */
const program = (name: string) => join(repository, 'node_modules/.bin', name);

describe('a project in a volume is built as on a disk', () => {
  let root: string;
  let onDisk: string;
  let mountpoint: string;
  let volume: Volume;
  let fs: VolumeFs;

  beforeAll(async () => {
    root = mkdtempSync(join(tmpdir(), sandboxPrefix));
    // The same path on both sides, since tools write paths into what they build.
    onDisk = join(root, 'project');
    mountpoint = join(root, 'mnt');
    mkdirSync(mountpoint);
    await Volume.create(join(root, 'volume'));
    volume = await Volume.open(join(root, 'volume'));
    fs = volume.fs;
    for (const [name, content] of Object.entries(project)) {
      mkdirSync(dirname(join(onDisk, name)), { recursive: true });
      writeFileSync(join(onDisk, name), content);
      await fs.promises.mkdir(dirname(join(onDisk, name)), { recursive: true });
      await fs.promises.writeFile(join(onDisk, name), content);
    }
  });

  afterAll(async () => {
    await volume.close();
    await detachBelow(root);
    rmSync(root, { recursive: true, force: true });
  });

  /** That it is a build at all: it runs, and does what the project says. */
  async function expectWorking(built: Built): Promise<void> {
    const directory = mkdtempSync(join(root, 'working-'));
    for (const [name, content] of Object.entries(built)) {
      mkdirSync(dirname(join(directory, name)), { recursive: true });
      writeFileSync(join(directory, name), content);
    }
    const script = 'const main = await import(process.argv[1]); console.log(main.said, await main.later());';
    const main = join(directory, 'main.js');
    writeFileSync(join(directory, 'package.json'), '{ "type": "module" }');
    const outcome = await run(process.execPath, ['--input-type=module', '-e', script, main]);
    expect(outcome).toMatchObject({ code: 0, stderr: '', stdout: 'GRÜSSE 780! LATE!\n' });
  }

  test('by rollup, with the files of the volume as its fs', async () => {
    const options: RollupOptions = { input: join(onDisk, 'src/main.js'), external: ['greeter'] };
    const built = async (more: RollupOptions): Promise<Built> => {
      const bundle = await rollup({ ...options, ...more });
      const { output } = await bundle.generate({ format: 'es', sourcemap: true, dir: join(onDisk, 'out') });
      await bundle.close();
      return Object.fromEntries(output.map((one) => [one.fileName, one.type === 'chunk' ? one.code : `${one.source}`]));
    };
    const calls: string[] = [];
    const watched = new Proxy(fs.promises, {
      get: (target, name) => {
        calls.push(String(name));
        return Reflect.get(target, name);
      },
    });
    const inVolume = await built({ fs: watched as never });
    expect(inVolume).toEqual(await built({}));
    expect(calls.filter((name) => name === 'readFile').length).toBeGreaterThan(40);
    expect(Object.keys(inVolume)).toContain('main.js.map');
  });

  test('by esbuild, with a plugin that reads the volume', async () => {
    const options: BuildOptions = {
      absWorkingDir: onDisk,
      entryPoints: ['src/main.js'],
      bundle: true,
      splitting: true,
      minify: true,
      format: 'esm',
      outdir: 'out',
    };
    const isFile = (path: string) =>
      fs.promises.stat(path).then(
        (stats) => stats.isFile(),
        () => false,
      );
    let read = 0;
    const inVolume: Plugin = {
      name: 'volume',
      setup(context) {
        context.onResolve({ filter: /.*/ }, async ({ path, resolveDir }) => {
          const direct = join(resolveDir, path);
          if (await isFile(direct)) {
            return { path: direct };
          }
          const home = join(onDisk, 'node_modules', path);
          const { main } = JSON.parse(await fs.promises.readFile(join(home, 'package.json'), 'utf8'));
          return { path: join(home, main) };
        });
        context.onLoad({ filter: /.*/ }, async ({ path }) => {
          read += 1;
          return { contents: await fs.promises.readFile(path), loader: 'js' };
        });
      },
    };
    const { outputFiles = [] } = await build({ ...options, write: false, plugins: [inVolume] });
    for (const { path, contents } of outputFiles) {
      await fs.promises.mkdir(dirname(path), { recursive: true });
      await fs.promises.writeFile(path, contents);
    }
    expect(existsSync(join(onDisk, 'out'))).toBe(false);
    await build(options);
    const ofVolume = await readBuiltIn(fs, join(onDisk, 'out'));
    expect(ofVolume).toEqual(readBuilt(join(onDisk, 'out')));
    expect(read).toBe(46);
    await expectWorking(ofVolume);
  });

  test.each([
    ['esbuild', ['src/main.js', '--bundle', '--splitting', '--format=esm', '--sourcemap', '--outdir=by-esbuild']],
    [
      'rollup',
      ['--input', 'src/main.js', '--external', 'greeter', '--format', 'es', '--sourcemap', '--dir', 'by-rollup'],
    ],
  ])('by the command %s, through a mount', async (name, args) => {
    await volume.mount(mountpoint);
    try {
      const inMount = join(mountpoint, onDisk);
      expect(await run(program(name), args, { cwd: onDisk })).toMatchObject({ code: 0 });
      expect(await run(program(name), args, { cwd: inMount })).toMatchObject({ code: 0 });
      const built = readBuilt(join(inMount, `by-${name}`));
      expect(Object.keys(built).filter((file) => file.endsWith('.map')).length).toBeGreaterThan(1);
      expect(built).toEqual(readBuilt(join(onDisk, `by-${name}`)));
      // The library sees what the command wrote.
      expect(await readBuiltIn(fs, join(onDisk, `by-${name}`))).toEqual(built);
      if (name === 'esbuild') {
        await expectWorking(built);
      }
    } finally {
      await volume.unmount();
    }
  });
});
