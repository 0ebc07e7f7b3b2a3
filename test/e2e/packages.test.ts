/** What is published, installed as a user does who has neither Rust nor a compiler. */
import { randomBytes } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { addonFile, addonPackage, currentPlatform } from '@verfs/native';
import { type Outcome, run } from '../harness/command.ts';
import { mountpointsBelow } from '../harness/mounts.ts';
import { repository, Sandbox } from '../harness/sandbox.ts';

/** How long the installation of the packages may take, in milliseconds. */
const installMaxMs = 30_000;

/** All that the user has. `fusermount3` mounts for those who aren't root. */
const programs = ['node', 'npm', 'sh', 'env', 'fusermount3', 'umount'];

interface Packed {
  readonly name: string;
  readonly path: string;
}

let sandbox: Sandbox;
let env: Record<string, string>;
let project: string;
let packed: readonly Packed[];

function placeOf(program: string): string | undefined {
  const directories = (process.env['PATH'] ?? '').split(delimiter);
  return [...directories, '/usr/sbin', '/sbin'].map((directory) => join(directory, program)).find(existsSync);
}

beforeAll(async () => {
  sandbox = new Sandbox();
  const { stdout, stderr, code } = await run('npm', ['run', '--silent', 'pack', '--', sandbox.path('packages')], {
    cwd: repository,
    timeoutMs: 120_000,
  });
  expect({ code, stderr }).toMatchObject({ code: 0 });
  packed = JSON.parse(stdout) as Packed[];
  const bin = sandbox.path('bin');
  mkdirSync(bin);
  for (const program of programs) {
    const place = placeOf(program);
    if (place !== undefined) {
      symlinkSync(place, join(bin, program));
    }
  }
  project = sandbox.path('project');
  mkdirSync(project);
  writeFileSync(join(project, 'package.json'), '{ "name": "user", "private": true, "type": "module" }');
  // What `npm ci` brought need not be fetched again.
  const cache = process.env['npm_config_cache'] ?? join(homedir(), '.npm');
  env = { ...sandbox.env, PATH: bin, npm_config_cache: cache, npm_config_update_notifier: 'false' };
}, 180_000);

afterAll(() => sandbox[Symbol.asyncDispose]());

const verfs = (...args: string[]): Promise<Outcome> =>
  run(join(project, 'node_modules/.bin/verfs'), args, { env, cwd: project });

test('npm install takes them within 30 s, where there is no cargo and no compiler', async () => {
  expect((await run('env', ['sh', '-c', 'command -v cargo || command -v cc'], { env })).code).not.toBe(0);
  const files = packed.map(({ path }) => path);
  const args = ['install', '--prefer-offline', '--no-audit', '--no-fund', ...files];
  const installed = await run(join(env['PATH'] as string, 'npm'), args, { env, cwd: project, timeoutMs: 120_000 });
  expect(installed).toMatchObject({ code: 0 });
  expect(installed.millis).toBeLessThan(installMaxMs);
  const modules = join(project, 'node_modules');
  const addon = join(modules, addonPackage(currentPlatform()));
  expect(readdirSync(addon)).toEqual(
    expect.arrayContaining([addonFile(currentPlatform()), 'THIRD-PARTY-NOTICES.txt', 'sbom.cdx.json']),
  );
  expect(readdirSync(join(modules, '@verfs'))).toEqual([addonPackage(currentPlatform()).slice('@verfs/'.length)]);
});

test('its command makes, mounts and unmounts a volume', async () => {
  const { volume, mountpoint } = sandbox;
  expect(await verfs('volume', 'create', volume)).toMatchObject({ code: 0, stderr: '' });
  expect(await verfs('mount', mountpoint, '--volume', volume)).toMatchObject({ code: 0, stderr: '' });
  writeFileSync(join(mountpoint, 'file'), 'written in the mount');
  expect(await verfs('unmount', mountpoint)).toMatchObject({ code: 0, stderr: '' });
  expect(mountpointsBelow(sandbox.root)).toEqual([]);
  expect(await verfs('mount', mountpoint, '--volume', volume)).toMatchObject({ code: 0 });
  expect(readFileSync(join(mountpoint, 'file'), 'utf8')).toBe('written in the mount');
  expect(await verfs('unmount', mountpoint)).toMatchObject({ code: 0 });
});

test('a daemon whose package is replaced, or gone, goes on, and is unmounted', async () => {
  const mountpoint = sandbox.path('upgraded-mount');
  mkdirSync(mountpoint);
  const volume = sandbox.path('upgraded');
  expect(await verfs('volume', 'create', volume)).toMatchObject({ code: 0 });
  expect(await verfs('mount', mountpoint, '--volume', volume)).toMatchObject({ code: 0, stderr: '' });
  writeFileSync(join(mountpoint, 'before'), 'before the upgrade');
  const modules = join(project, 'node_modules');
  renameSync(modules, `${modules}.away`);
  try {
    writeFileSync(join(mountpoint, 'after'), randomBytes(3_000_000));
    expect(readFileSync(join(mountpoint, 'before'), 'utf8')).toBe('before the upgrade');
    // The version that came instead speaks with it: everything that the daemon may need of its package is loaded.
    const asked = [
      ['status', mountpoint],
      ['stats', mountpoint],
      ['du', mountpoint],
      ['snapshot', 'create', 'one', '--volume', volume],
      ['snapshot', 'diff', 'one', '--volume', volume],
      ['policy', 'set', '--schedule', 'hourly', '--volume', volume],
      ['config', 'set', 'daemon.log_level', 'debug', '--volume', volume],
      ['config', 'reload', '--volume', volume],
      ['import', repository.concat('/docs'), 'docs', '--volume', volume],
      ['scrub', '--now', mountpoint],
      ['gc', '--now', mountpoint],
      ['sync', mountpoint],
    ];
    for (const args of asked) {
      expect([args, await sandbox.verfs(args)]).toMatchObject([args, { code: 0, stderr: '' }]);
    }
    expect(await sandbox.verfs(['unmount', mountpoint])).toMatchObject({ code: 0, stderr: '' });
  } finally {
    rmSync(modules, { recursive: true, force: true });
    renameSync(`${modules}.away`, modules);
  }
  expect(mountpointsBelow(sandbox.root)).toEqual([]);
}, 120_000);

test('its library does so, too', async () => {
  const script = [
    "import { readFileSync, writeFileSync } from 'node:fs';",
    "import { NotAVolumeError, Volume } from 'verfs';",
    'const [directory, mountpoint] = process.argv.slice(2);',
    'await Volume.inspect(mountpoint).catch((error) => console.log(error instanceof NotAVolumeError));',
    'await Volume.create(directory);',
    'const volume = await Volume.open(directory);',
    'await volume.mount(mountpoint);',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the program's own.
    'writeFileSync(`${mountpoint}/file`, "by the library");',
    'await volume.unmount();',
    'console.log((await volume.stats()).files);',
    'await volume.close();',
  ].join('\n');
  writeFileSync(join(project, 'use.js'), script);
  const outcome = await run('node', ['use.js', sandbox.path('other'), sandbox.mountpoint], { env, cwd: project });
  expect(outcome).toMatchObject({ code: 0, stderr: '', stdout: 'true\n1\n' });
});

test('its library is there for CommonJS', async () => {
  const script = [
    "const { NotAVolumeError, Volume } = require('verfs');",
    'async function main([directory]) {',
    '  await Volume.inspect(directory).catch((error) => console.log(error instanceof NotAVolumeError, error.code));',
    '  await Volume.create(directory);',
    '  const volume = await Volume.open(directory);',
    "  await volume.fs.promises.writeFile('/file', 'required');",
    "  console.log(await volume.fs.promises.readFile('/file', 'utf8'));",
    '  await volume.close();',
    '}',
    'main(process.argv.slice(2));',
  ].join('\n');
  writeFileSync(join(project, 'use.cjs'), script);
  const outcome = await run('node', ['use.cjs', sandbox.path('by-require')], { env, cwd: project });
  expect(outcome).toMatchObject({ code: 0, stderr: '', stdout: 'true VERFS_E_NOT_A_VOLUME\nrequired\n' });
});

/** What a user's program may be compiled as: the ways to find types that TypeScript has for packages with `exports`. */
const compilations = [
  ['use-types.mts', ['--module', 'node16']],
  ['use-types.cts', ['--module', 'node16']],
  ['use-types.mts', ['--module', 'esnext', '--moduleResolution', 'bundler']],
] as const;

test.each(compilations)('its types are found by TypeScript: %s %j', async (file, args) => {
  const program = [
    "import { type Stats, VerfsError, Volume, type VolumeFs, VolumeLockedError } from 'verfs';",
    'export async function use(directory: string): Promise<number> {',
    "  const made = await Volume.create(directory, { chunker: 'mincdc' });",
    '  const uuid: string = made.uuid;',
    '  const volume = await Volume.open(directory);',
    '  const fs: VolumeFs = volume.fs;',
    "  const text: string = await fs.promises.readFile('/' + uuid, 'utf8');",
    "  fs.stat('/', (error: NodeJS.ErrnoException | null) => error?.code);",
    '  const stats: Stats = await volume.stats();',
    "  for await (const { kind, path } of volume.snapshots.diff('before')) {",
    "    const known: 'added' | 'removed' | 'changed' | 'renamed' = kind;",
    '    void [known, path.length];',
    '  }',
    '  // @ts-expect-error: there is no such chunker.',
    "  await Volume.create(directory, { chunker: 'none' });",
    '  // @ts-expect-error: there is no such function.',
    '  volume.nothing();',
    '  // @ts-expect-error: it is a number.',
    '  const wrong: string = stats.files;',
    '  const error: unknown = wrong;',
    '  return error instanceof VolumeLockedError && error instanceof VerfsError ? text.length : stats.files;',
    '}',
  ].join('\n');
  writeFileSync(join(project, file), program);
  const types = join(project, 'node_modules/@types');
  if (!existsSync(join(types, 'node'))) {
    // A user's program has Node's types.
    mkdirSync(types, { recursive: true });
    symlinkSync(join(repository, 'node_modules/@types/node'), join(types, 'node'));
  }
  const compiler = join(repository, 'node_modules/typescript/bin/tsc');
  const strict = ['--noEmit', '--strict', '--target', 'es2023', '--lib', 'es2023,esnext.disposable', '--types', 'node'];
  // Types of the package are checked as well (skipLibCheck is off).
  const outcome = await run(process.execPath, [compiler, ...strict, ...args, file], { cwd: project });
  expect(outcome).toMatchObject({ stdout: '', stderr: '', code: 0 });
});

test('the bill of materials names every crate of the notices', () => {
  const addon = join(project, 'node_modules', addonPackage(currentPlatform()));
  const bill = JSON.parse(readFileSync(join(addon, 'sbom.cdx.json'), 'utf8')) as {
    readonly bomFormat: string;
    readonly specVersion: string;
    readonly components: readonly {
      readonly name: string;
      readonly version: string;
      readonly purl: string;
      readonly licenses?: readonly unknown[];
    }[];
  };
  expect(bill).toMatchObject({ bomFormat: 'CycloneDX', specVersion: expect.stringMatching(/^1\.\d$/) });
  const named = bill.components.map(({ name, version }) => `${name} ${version}`).sort();
  const notices = readFileSync(join(addon, 'THIRD-PARTY-NOTICES.txt'), 'utf8');
  const noticed = [...notices.matchAll(/^(\S+ \d+\.\d+\.\S+) \(/gm)].map(([, crate]) => crate as string);
  expect(named).toEqual([...new Set(noticed)].sort());
  expect(named.length).toBeGreaterThan(50);
  for (const author of ['Jason Evans <jasone@canonware.com>', 'Copyright (c) Meta Platforms, Inc. and affiliates.']) {
    expect(notices).toContain(author);
  }
  const without = bill.components.filter(
    ({ name, version, purl, licenses = [] }) => purl !== `pkg:cargo/${name}@${version}` || licenses.length === 0,
  );
  expect(without).toEqual([]);
});

test('they are within their budgets, and one that is not is refused', async () => {
  const script = [
    "const { budgets, checkBudget } = await import('./scripts/release/pack.mjs');",
    "checkBudget({ name: 'verfs', size: budgets.main.packedMax, unpackedSize: budgets.main.unpackedMax }, budgets.main);",
    "checkBudget({ name: 'verfs', size: budgets.main.packedMax + 1, unpackedSize: 1 }, budgets.main);",
  ].join('\n');
  const refused = await run(process.execPath, ['--input-type=module', '-e', script], { cwd: repository });
  expect(refused.code).not.toBe(0);
  expect(refused.stderr).toMatch(/verfs has \d+ bytes packed and 1 laid out; its budget is/);
  expect(packed.map(({ name }) => name)).toEqual(['verfs', addonPackage(currentPlatform())]);
});

test('it has the licences, and neither sources nor maps of them', () => {
  const installed = join(project, 'node_modules/verfs');
  const files = readdirSync(installed, { recursive: true, encoding: 'utf8' });
  expect(files).toEqual(expect.arrayContaining(['LICENSE-MIT', 'LICENSE-APACHE', 'CHANGELOG.md', 'README.md']));
  expect(files.filter((file) => /(?<!\.d)\.ts$|\.map$|\.tsbuildinfo$|\.test\./.test(file))).toEqual([]);
  expect(files.filter((file) => file.endsWith('.node'))).toEqual([]);
});

test('there is one version everywhere, and the changelog tells of it', async () => {
  const script = "import('./scripts/release/versions.mjs').then((m) => console.log(m.checkVersions(process.argv[1])))";
  const { version } = JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8')) as { version: string };
  const check = (of: string) => run(process.execPath, ['-e', script, of], { cwd: repository });
  expect(await check(version)).toMatchObject({ code: 0, stdout: `${version}\n` });
  const other = await check('99.0.0');
  expect(other.code).not.toBe(0);
  expect(other.stderr).toContain('packages/sdk/package.json, @verfs/errors has');
});
