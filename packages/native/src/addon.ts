import { createRequire } from 'node:module';
import type * as Bindings from '@verfs/bindings';
import { InternalError, isErrorRecord, restoreError, UsageError, type VerfsError } from '@verfs/errors';
import { addonFile, currentPlatform } from './platform.ts';

/** The addon as it comes out of Rust. */
export type Addon = typeof Bindings;

let loaded: Addon | undefined;

/** The addon, loaded at the first call. */
export function addon(): Addon {
  if (loaded === undefined) {
    const file = addonFile(currentPlatform());
    try {
      loaded = createRequire(import.meta.url)(`@verfs/bindings/${file}`) as Addon;
    } catch (cause) {
      throw new InternalError(`The native addon ${file} cannot be loaded`, {
        advice: 'Build it: `npm run build`.',
        cause,
      });
    }
  }
  return loaded;
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
