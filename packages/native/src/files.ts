import type { Files } from '@verfs/bindings';
import type { VerfsError } from '@verfs/errors';
import { fromAddon } from './addon.ts';

export type { FileAttributes, FileEntries, FileRoom, FirstEntries } from '@verfs/bindings';

/** Operations on the files of an open volume, as they come out of the addon: it documents them. */
export type NativeFiles = Files;

/** Why an operation on files failed: an error number of the operating system, negative, or an error of ours. */
export function fileFailure(thrown: unknown): number | VerfsError {
  if (typeof thrown === 'object' && thrown !== null && 'errno' in thrown && typeof thrown.errno === 'number') {
    return thrown.errno;
  }
  return fromAddon(thrown);
}
