import { createRequire } from 'node:module';
import type * as Bindings from '@verfs/bindings';
import { InternalError, isErrorRecord, restoreError, UsageError, type VerfsError } from '@verfs/errors';
import { addonFile, addonPackage, currentPlatform } from './platform.ts';

/** The addon as it comes out of Rust. */
export type Addon = typeof Bindings;

let loaded: Addon | undefined;

/** The addon, loaded at the first call. */
export function addon(): Addon {
  if (loaded === undefined) {
    loaded = load();
  }
  return loaded;
}

function load(): Addon {
  const platform = currentPlatform();
  const file = addonFile(platform);
  const name = addonPackage(platform);
  const require = createRequire(import.meta.url);
  try {
    // What was built here, or else what npm installed for this machine.
    const place = [`@verfs/bindings/${file}`, `${name}/${file}`].find((module) => resolves(require, module));
    if (place === undefined) {
      throw new Error(`neither @verfs/bindings has it, nor is ${name} installed`);
    }
    return require(place) as Addon;
  } catch (cause) {
    const advice = `Install it: \`npm install ${name}\`; in a clone, build it: \`npm run build\`.`;
    throw new InternalError(`The native addon ${file} cannot be loaded: ${(cause as Error).message}`, {
      advice,
      cause,
    });
  }
}

function resolves(require: NodeJS.Require, module: string): boolean {
  try {
    require.resolve(module);
    return true;
  } catch {
    return false;
  }
}

/** What the addon threw, as an error of ours. Whatever has no code of ours is a wrong argument. */
export function fromAddon(thrown: unknown): VerfsError {
  if (isErrorRecord(thrown)) {
    return restoreError({ code: thrown.code, message: thrown.message, path: thrown.path }, thrown);
  }
  const what = thrown instanceof Error ? thrown.message : String(thrown);
  return new UsageError(`The addon refused its arguments: ${what}`, {
    advice: 'See the types of the package.',
    cause: thrown,
  });
}
