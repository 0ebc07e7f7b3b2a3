import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isNativeError, isPromise } from 'node:util/types';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { VerfsError, Volume } from 'verfs';
import { addonFile, currentPlatform } from '../../packages/native/src/platform.ts';
import { VolumeClient } from '../../packages/sdk/src/control/client.ts';
import { RemotePolicy } from '../../packages/sdk/src/control/remote.ts';
import { LocalPolicy } from '../../packages/sdk/src/policy.ts';
import { Snapshots } from '../../packages/sdk/src/snapshots.ts';
import { Vault } from '../../packages/sdk/src/vault.ts';
import { Sandbox, sandboxPrefix } from '../harness/sandbox.ts';

/** Anything at all, with what functions of files take among it. */
const anything = fc.oneof(
  {
    weight: 2,
    arbitrary: fc.constantFrom('/', '/file', '/d', '/d/x', '..', '', 'a\0b', '/link', 'utf8', 'r', 'w+', 'hex'),
  },
  { weight: 2, arbitrary: fc.oneof(fc.integer({ min: -3, max: 10 }), fc.double(), fc.bigInt()) },
  fc.uint8Array({ maxLength: 64 }).map((bytes) => Buffer.from(bytes)),
  fc.constantFrom(2 ** 30, 2 ** 30 + 1, 2 ** 31, 2 ** 32, 2 ** 53, -1, Number.NaN, Number.POSITIVE_INFINITY),
  fc.constantFrom(undefined, null, true, Symbol('s'), () => undefined, new Proxy({}, {}), Object.create(null)),
  fc.constantFrom(AbortSignal.abort(), new AbortController().signal),
  fc.record(
    { encoding: fc.anything(), flag: fc.anything(), mode: fc.anything(), recursive: fc.anything() },
    { requiredKeys: [] },
  ),
  fc.anything({ withBigInt: true, withDate: true, withMap: true, withTypedArray: true, withNullPrototype: true }),
);
const argumentsOf = fc.array(anything, { maxLength: 6 });

/** Errors of Node have a code; so have those of the engine, and those of wrong arguments of the addon. */
const isTyped = (error: unknown) =>
  error instanceof VerfsError ||
  (typeof error === 'object' &&
    error !== null &&
    'code' in error &&
    typeof error.code === 'string' &&
    'message' in error);

type Callable = Record<string, (...args: unknown[]) => unknown>;

/** Text that may be a path of this machine is one in `directory`. */
const keptIn = (directory: string, value: unknown): unknown =>
  typeof value === 'string' ? join(directory, `of-nobody-${Buffer.from(value).toString('hex')}`) : value;

/** Methods of a value, its own and its prototype's, but those that would wait for ever or end the test. */
function methodsOf(value: object, without: readonly string[]): string[] {
  const own = Object.getOwnPropertyNames(value);
  const inherited = Object.getOwnPropertyNames(Object.getPrototypeOf(value));
  return [...new Set([...own, ...inherited])].filter(
    (name) => !without.includes(name) && !(name in Object.prototype) && typeof (value as Callable)[name] === 'function',
  );
}

describe('arguments that nobody expects', () => {
  let root: string;
  let volume: Volume;
  const unhandled: unknown[] = [];
  const note = (error: unknown) => unhandled.push(error);

  beforeAll(async () => {
    root = mkdtempSync(join(tmpdir(), sandboxPrefix));
    await Volume.create(join(root, 'volume'));
    volume = await Volume.open(join(root, 'volume'));
    await volume.fs.promises.mkdir('/d');
    await volume.fs.promises.writeFile('/file', 'x');
    process.on('unhandledRejection', note);
  });

  afterAll(async () => {
    process.off('unhandledRejection', note);
    await volume.close();
    rmSync(root, { recursive: true, force: true });
  });

  /** Calls a method; whatever it answers, a failure is an error with a code, or another one that `isFine`. */
  async function call(
    target: object,
    name: string,
    args: unknown[],
    isFine: (error: unknown) => boolean = isTyped,
  ): Promise<void> {
    try {
      const result = (target as Callable)[name]?.(...args);
      if (isPromise(result)) {
        const value = await result;
        await (value as { close?: () => unknown } | undefined)?.close?.();
      } else if (typeof result === 'object' && result !== null && 'stop' in result) {
        (result as { stop(): void }).stop();
      } else if (typeof result === 'object' && result !== null && 'destroy' in result) {
        const stream = result as NodeJS.ReadableStream & { destroy(): void };
        stream.on('error', () => undefined);
        stream.destroy();
      }
    } catch (error) {
      if (!isFine(error)) {
        throw new Error(`${name} failed with what has no code: ${String(error)}`, { cause: error });
      }
    }
  }

  async function fuzz(target: object, names: readonly string[], runs: number): Promise<void> {
    expect(names.length).toBeGreaterThan(20);
    const property = fc.asyncProperty(fc.constantFrom(...names), argumentsOf, (name, args) => call(target, name, args));
    await fc.assert(property, { numRuns: runs });
    await new Promise((resolve) => setImmediate(resolve));
    expect(unhandled).toEqual([]);
    expect(await volume.fs.promises.readdir('/')).toBeInstanceOf(Array);
  }

  test('to fs.promises are errors with a code', async () => {
    await fuzz(volume.fs.promises, methodsOf(volume.fs.promises, ['watch']), 3000);
  });

  test('to functions with callbacks are errors with a code', async () => {
    const classes = ['Dir', 'Dirent', 'Stats', 'ReadStream', 'WriteStream', 'FileReadStream', 'FileWriteStream'];
    const names = methodsOf(volume.fs, ['watch', 'promises', ...classes]);
    // These call back later, or never.
    const withoutCallback = ['createReadStream', 'createWriteStream', 'openAsBlob', 'unwatchFile', 'watchFile'];
    // What they answer comes to a callback that knows an error from a result.
    const withCallback = Object.fromEntries(
      names.map((name) => [
        name,
        (...args: unknown[]) =>
          withoutCallback.includes(name)
            ? (volume.fs as unknown as Callable)[name]?.(...args)
            : new Promise((resolve, reject) => {
                const done = (error: unknown) => (error instanceof Object ? reject(error) : resolve(undefined));
                // The place of this callback is fixed.
                const given = name === 'exists' ? args.slice(0, 1) : args;
                (volume.fs as unknown as Callable)[name]?.(...given, done);
              }),
      ]),
    );
    await fuzz(withCallback, names, 3000);
  });

  describe('of the addon itself', () => {
    /** What is not called with anything at all, and why. */
    const left: Readonly<Record<string, string>> = {
      'Volume#close': 'ends the volume: the last test calls what is left of it',
      'Volume#waitUnmounted': 'waits for as long as a mount is there',
    };
    /** Fewer of them where one call makes a volume, or waits for a disk. */
    const runsOf = (name: string) => (/^Volume\b/.test(name) ? 25 : 60);

    type Addon = Record<string, unknown> & { readonly Volume: Record<string, (...args: unknown[]) => Promise<never>> };
    const addon: Addon = createRequire(import.meta.url)(`../../bindings/node/${addonFile(currentPlatform())}`);

    /** Every function that the addon exports: `name`, `Class.static`, `Class#method`. */
    const exported = Object.entries(addon).flatMap(([name, value]) => {
      const members = (of: object, mark: string) =>
        Object.getOwnPropertyNames(of)
          .filter((member) => member !== 'constructor' && typeof (of as Callable)[member] === 'function')
          .map((member) => `${name}${mark}${member}`);
      const isClass = /^[A-Z]/.test(name);
      const { prototype } = value as { readonly prototype: object };
      return isClass ? [...members(value as object, '.'), ...members(prototype, '#')] : [name];
    });
    const fuzzed = exported.filter((name) => left[name] === undefined);

    /** What is no object of options is refused before it gets a code: nobody but packages/native calls the addon. */
    const isRefused = (error: unknown) => isTyped(error) || isNativeError(error);

    /** One of each class, to call its methods. */
    const objects: Record<string, object> = {};

    const kept = (value: unknown) => keptIn(root, value);

    const functionOf = (name: string): [object, string] => {
      const [of = '', method] = name.split(/[.#]/);
      const target = name.includes('#') ? objects[of] : (addon[of] as object);
      return method === undefined ? [addon, of] : [target as object, method];
    };

    beforeAll(async () => {
      const { Volume: Bare } = addon;
      await Bare['create']?.(join(root, 'bare'));
      const bare = (await Bare['open']?.(join(root, 'bare'))) as unknown as Record<
        string,
        (...args: unknown[]) => never
      >;
      const files = bare['files']?.(0o22) as unknown as Record<string, (...args: unknown[]) => Promise<object>>;
      await bare['snapshotCreate']?.('s', '');
      objects['Volume'] = bare;
      objects['Files'] = files as object;
      objects['FileWatch'] = (await files['watch']?.('/', false, () => undefined)) ?? {};
      objects['TransferCounters'] = new (addon['TransferCounters'] as new () => object)();
      objects['SnapshotDiff'] = (await (bare['snapshotDiff']?.('s') as unknown as Promise<object>)) ?? {};
    });

    test('every function is called, or it is said why not', () => {
      expect(exported).toEqual(expect.arrayContaining(['peerUid', 'Volume.open', 'Volume#gc', 'Files#read']));
      expect(exported.length).toBeGreaterThan(70);
      expect(Object.keys(left).filter((name) => !exported.includes(name))).toEqual([]);
      const classes = fuzzed.filter((name) => name.includes('#')).map((name) => name.split('#')[0] as string);
      expect([...new Set(classes)].filter((name) => objects[name] === undefined)).toEqual([]);
    });

    test.each(fuzzed)('%s crashes nothing', async (name) => {
      const [target, method] = functionOf(name);
      const property = fc.asyncProperty(argumentsOf, (args) =>
        // Paths of files are in the volume; all other text may be a place of this machine.
        call(target, method, name.startsWith('Files') ? args : args.map(kept), isRefused),
      );
      await fc.assert(property, { numRuns: runsOf(name) });
      await new Promise((resolve) => setImmediate(resolve));
      expect(unhandled).toEqual([]);
    });

    test('methods of one class do nothing with what is no object of it', () => {
      const methods = exported.filter((name) => name.includes('#'));
      for (const name of methods) {
        const [of = '', method = ''] = name.split('#');
        const { prototype } = addon[of] as { readonly prototype: Callable };
        for (const other of [{}, Object.create(prototype), objects[of === 'Files' ? 'Volume' : 'Files'], null]) {
          expect(() => prototype[method]?.call(other, '/', 1, 2)).toThrow();
        }
      }
    });

    test('numbers of files that are never open, and what is no buffer, are refused', async () => {
      const files = objects['Files'] as Record<string, (...args: unknown[]) => Promise<unknown>>;
      await expect(files['read']?.(2 ** 30 + 5, Buffer.alloc(1), null)).rejects.toMatchObject({ errno: -9 });
      expect(() => files['read']?.(0, 'no buffer', null)).toThrow();
    });

    test('a closed volume answers everything with an error that has a code', async () => {
      const bare = objects['Volume'] as Callable;
      const files = objects['Files'] as Callable;
      await bare['close']?.();
      for (const name of exported.filter((one) => one.startsWith('Volume#') || one.startsWith('Files#'))) {
        const [target, method] = functionOf(name);
        await fc.assert(
          fc.asyncProperty(argumentsOf, (args) => call(target, method, args.map(kept), isRefused)),
          { numRuns: 3 },
        );
      }
      await expect(files['mkdir']?.('/late', 0o755)).rejects.toThrow();
      expect(unhandled).toEqual([]);
    });
  });

  describe('of the library', () => {
    /** What is not called with anything at all, and why. */
    const left: Readonly<Record<string, string>> = {
      'Volume#close': 'ends the volume: the last test calls what is left of it',
      'VolumeClient#close': 'ends the connection: so it is',
      'VolumeClient#unmount': 'ends the daemon',
      'Volume#listen': 'is for its class alone',
      'VolumeClient#listen': 'so it is',
      'VolumeClient.to': 'takes what the registry has, which is not for callers',
    };
    /** Fewer of them where a call makes a volume, costs as much as a try of a password, or looks at everything. */
    const runsOf = (name: string) => (/[.#](create|freeze|gc|scrub|mount|import|export|receive)$/.test(name) ? 10 : 20);

    /** The classes of what a program gets, by how it gets to them. */
    const classes: Readonly<Record<string, { readonly prototype: object }>> = {
      Volume,
      VolumeClient,
      'Volume.snapshots': Snapshots,
      'VolumeClient.snapshots': Snapshots,
      'Volume.vault': Vault,
      'VolumeClient.vault': Vault,
      'Volume.policy': LocalPolicy,
      'VolumeClient.policy': RemotePolicy,
    };

    const functionsOf = (of: object) =>
      Object.entries(Object.getOwnPropertyDescriptors(of))
        .filter(([name, { value }]) => typeof value === 'function' && name !== 'constructor')
        .map(([name]) => name);

    /** Every function: `Class.static`, `Class#method`, `Class.part#method`. */
    const all = Object.entries(classes).flatMap(([name, of]) => [
      ...(name.includes('.') ? [] : functionsOf(of).map((member) => `${name}.${member}`)),
      ...functionsOf(of.prototype).map((member) => `${name}#${member}`),
    ]);
    const fuzzed = all.filter((name) => left[name] === undefined);

    const options = fc.record(
      {
        signal: fc.oneof(fc.anything(), fc.constantFrom(AbortSignal.abort(), new AbortController().signal)),
        onProgress: fc.oneof(
          fc.anything(),
          fc.constant(() => undefined),
        ),
        ...Object.fromEntries(
          ['path', 'snapshot', 'verify', 'compare', 'leaveOut', 'repair', 'note', 'to', 'from', 'resume', 'rollback']
            .concat(['mode', 'schedule', 'rateBytes', 'graceMs', 'compressed', 'readOnly', 'gcDeadPercent', 'extra'])
            .map((name) => [name, fc.oneof(fc.anything({ withBigInt: true }), fc.constantFrom('/', 'one', 1, true))]),
        ),
      },
      { requiredKeys: [] },
    );
    const given = fc.array(fc.oneof({ weight: 3, arbitrary: anything }, options), { maxLength: 4 });

    let sandbox: Sandbox;
    const objects: Record<string, object> = {};

    const functionAt = (name: string): [object, string] => {
      const [of = '', method] = name.split('#');
      const [path = '', static_ = ''] = name.split('.');
      return method === undefined ? [classes[path] as object, static_] : [objects[of] as object, method];
    };

    /** Text may be a path of this machine: what nobody has, or a directory of the test. */
    const onlyHere = (name: string, args: readonly unknown[]): unknown[] => {
      const places = args.map((value) => (value === '/d' ? join(root, 'source') : keptIn(root, value)));
      const [password, how] = places;
      const isOptions = how === undefined || (typeof how === 'object' && how !== null);
      // By default a key file is made in the current directory.
      return name.endsWith('vault#create') && isOptions ? [password, { ...how, directory: root }] : places;
    };

    /** Calls it, and takes what comes first of what gives several. */
    const begun = (target: object, name: string) => ({
      [name]: async (...args: unknown[]) => {
        const result = (target as Callable)[name]?.(...args);
        if (typeof result === 'object' && result !== null && Symbol.asyncIterator in result) {
          for await (const value of result as AsyncIterable<unknown>) {
            return value;
          }
          return undefined;
        }
        return await result;
      },
    });

    const fuzzOne = async (name: string, runs: number) => {
      const [target, method] = functionAt(name);
      const property = fc.asyncProperty(given, (args) => call(begun(target, method), method, onlyHere(name, args)));
      await fc.assert(property, { numRuns: runs });
      await new Promise((resolve) => setImmediate(resolve));
      expect(unhandled).toEqual([]);
    };

    beforeAll(async () => {
      sandbox = new Sandbox();
      await sandbox.mount();
      mkdirSync(join(root, 'source'));
      const client = await Volume.connect(sandbox.mountpoint);
      for (const [name, of] of Object.entries({ Volume: volume, VolumeClient: client })) {
        objects[name] = of;
        for (const part of ['snapshots', 'vault', 'policy'] as const) {
          objects[`${name}.${part}`] = of[part];
        }
      }
    });

    afterAll(() => sandbox[Symbol.asyncDispose]());

    test('every function is called, or it is said why not', async () => {
      const library: object = await import('verfs');
      const others = Object.entries(library).filter(
        ([, value]) => typeof value === 'function' && !(value.prototype instanceof Error),
      );
      // The others tell about errors, and touch nothing.
      expect(others.map(([name]) => name).sort()).toEqual([
        'Volume',
        'classOf',
        'errorsMarkdown',
        'isErrorCode',
        'isErrorRecord',
        'restoreError',
        'shellQuoted',
        'toVerfsError',
        'version',
      ]);
      for (const [name, of] of Object.entries(classes)) {
        expect([name, Object.getPrototypeOf(objects[name])]).toEqual([name, of.prototype]);
      }
      // Each object that a volume has is called: its files are, above.
      for (const name of ['Volume', 'VolumeClient']) {
        const parts = Object.entries(objects[name] as object).filter(
          ([key, value]) => typeof value === 'object' && value !== null && !key.startsWith('_') && key !== 'served',
        );
        expect(parts.map(([key]) => `${name}.${key}`).filter((part) => classes[part] === undefined)).toEqual([]);
      }
      expect(all).toEqual(expect.arrayContaining(['Volume.open', 'Volume#import', 'VolumeClient.vault#create']));
      expect(Object.keys(left).filter((name) => !all.includes(name))).toEqual([]);
    });

    test.each(fuzzed)('%s fails with a code, if it does', async (name) => {
      await fuzzOne(name, runsOf(name));
    });

    test('a closed volume, and a closed connection, answer everything with an error that has a code', async () => {
      await (objects['Volume'] as Volume).close();
      await (objects['VolumeClient'] as VolumeClient).close();
      for (const name of all.filter((one) => one.includes('#') && !one.endsWith('#listen'))) {
        await fuzzOne(name, 3);
      }
      await expect((objects['Volume'] as Volume).sync()).rejects.toMatchObject({ code: 'VERFS_E_CLOSED' });
      await expect((objects['VolumeClient'] as VolumeClient).sync()).rejects.toMatchObject({ code: 'VERFS_E_CLOSED' });
    });
  });
});
