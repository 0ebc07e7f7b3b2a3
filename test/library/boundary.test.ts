import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isPromise } from 'node:util/types';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { VerfsError, Volume } from 'verfs';
import { addonFile, currentPlatform } from '../../packages/native/src/platform.ts';
import { sandboxPrefix } from '../harness/sandbox.ts';

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

  /** Calls a method; whatever it answers, a failure is an error with a code. */
  async function call(target: object, name: string, args: unknown[]): Promise<void> {
    try {
      const result = (target as Callable)[name]?.(...args);
      if (isPromise(result)) {
        const value = await result;
        await (value as { close?: () => unknown } | undefined)?.close?.();
      } else if (typeof result === 'object' && result !== null && 'destroy' in result) {
        const stream = result as NodeJS.ReadableStream & { destroy(): void };
        stream.on('error', () => undefined);
        stream.destroy();
      }
    } catch (error) {
      if (!isTyped(error)) {
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
    const names = methodsOf(volume.fs, ['watch', 'promises']);
    // What they answer comes to a callback that knows an error from a result.
    const withCallback = Object.fromEntries(
      names.map((name) => [
        name,
        (...args: unknown[]) =>
          name.startsWith('create')
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

  test('to the addon itself crash nothing', async () => {
    const addon = createRequire(import.meta.url)(`../../bindings/node/${addonFile(currentPlatform())}`);
    await addon.Volume.create(join(root, 'bare'));
    const bare = await addon.Volume.open(join(root, 'bare'));
    const files = bare.files(0o22);
    const names = methodsOf(files, ['watch']);
    await fuzz(files, names, 3000);
    // Numbers of files that are never open, sizes that no buffer has.
    await expect(files.read(2 ** 30 + 5, Buffer.alloc(1), null)).rejects.toMatchObject({ errno: -9 });
    expect(() => files.read(0, 'no buffer', null)).toThrow();
    await bare.close();
  });
});
