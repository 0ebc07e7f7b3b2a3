import { existsSync, mkdirSync, renameSync, rmdirSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { type ErrorCode, VerfsError } from '@verfs/errors';
import { NativeVolume, type VolumeInfo } from '@verfs/native';
import type { DaemonRequest } from './request.ts';

/** A volume that was found or made for a mount. */
export interface Found {
  readonly info: VolumeInfo;
  /** Whether it was there, or made. */
  readonly how: 'found' | 'created';
  /** Removes what was made, when the mount fails. */
  undo(): Promise<void>;
}

/**
 * Looks at the volume of `request`, or makes it where there is none and that is wanted. Others may do the same at the
 * same time.
 *
 * @throws Every error of `Volume.create` and `Volume.inspect`; nothing is made then.
 */
export async function findOrCreate(request: DaemonRequest): Promise<Found> {
  const { volume } = request;
  const found = async (): Promise<Found> => {
    return { info: await NativeVolume.inspect(volume), how: 'found', undo: async () => undefined };
  };
  try {
    return await found();
  } catch (error) {
    if (!hasCode(error, 'VERFS_E_NOT_A_VOLUME') || request.whenMissing === 'fail') {
      throw error;
    }
  }
  const isDirectoryOurs = !existsSync(volume);
  const parent = dirname(volume);
  const parents = parentsMade(parent, mkdirSync(parent, { recursive: true }));
  const removeParents = () => parents.forEach(removeIfEmpty);
  try {
    const info = await NativeVolume.create(volume, request.create);
    const undo = async () => {
      // In a directory that was there it may as well stay: an empty volume, for the next attempt.
      if (isDirectoryOurs) {
        await removeUnused(volume);
        removeParents();
      }
    };
    return { info, how: 'created', undo };
  } catch (error) {
    if (hasCode(error, 'VERFS_E_VOLUME_EXISTS')) {
      // Somebody else made it meanwhile.
      return await found();
    }
    removeParents();
    throw error;
  }
}

const hasCode = (error: unknown, code: ErrorCode) => error instanceof VerfsError && error.code === code;

/** `path` and the directories above it up to `topmost`, if that was made. The deepest comes first. */
function parentsMade(path: string, topmost: string | undefined): string[] {
  const within = topmost !== undefined && path.startsWith(topmost);
  return within ? [path, ...(path === topmost ? [] : parentsMade(dirname(path), topmost))] : [];
}

function removeIfEmpty(directory: string): void {
  try {
    rmdirSync(directory);
  } catch {
    // Somebody uses it.
  }
}

/**
 * Removes a volume that was made for a mount that failed, unless another process uses it by now. It is out of the way
 * before we look who does: from then on nobody can begin to.
 */
async function removeUnused(volume: string): Promise<void> {
  const aside = `${volume}.unused-${process.pid}`;
  renameSync(volume, aside);
  const { holderPid } = await NativeVolume.inspect(aside);
  if (holderPid == null) {
    rmSync(aside, { recursive: true, force: true });
  } else {
    renameSync(aside, volume);
  }
}
