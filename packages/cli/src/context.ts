import { isUtf8 } from 'node:buffer';
import { readFileSync, readlinkSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Config, ConfigKey } from '@verfs/config';
import { UsageError } from '@verfs/errors';

/** Options that every command takes. */
export interface CommonArguments {
  readonly json: boolean;
  /** No progress is told. */
  readonly quiet?: boolean | undefined;
  readonly config?: string | undefined;
}

/** Options of commands that act on a volume. */
export interface TargetArguments extends CommonArguments {
  /** A path inside a mount, or its mountpoint. */
  readonly path?: string | undefined;
  /** Directory of a volume. */
  readonly volume?: string | undefined;
}

/** What a command acts on. */
export interface Target {
  /** Absolute. */
  readonly path: string;
  readonly given: 'path' | 'volume' | 'nothing';
}

/** What Node puts in the place of bytes that are not UTF-8. */
const replacement = '\ufffd';

/**
 * The absolute path of a volume or a mountpoint that is to be made or used.
 *
 * @throws UsageError when it isn't UTF-8: Node hands out another name then, which would be made instead.
 */
export function placeOf(given: string): string {
  const path = resolve(given);
  if (path.includes(replacement)) {
    const raw = [readFileSync('/proc/self/cmdline'), readlinkSync('/proc/self/cwd', 'buffer')];
    if (!raw.every((bytes) => isUtf8(bytes))) {
      const advice = 'Volumes and mountpoints need one that is; files in a mount may have any name.';
      throw new UsageError(`The path ${path} is not UTF-8`, { path, advice });
    }
  }
  return path;
}

/** The configuration, loaded only by commands that need it. */
export async function loadConfig(
  args: CommonArguments,
  overrides?: Readonly<Partial<Record<ConfigKey, unknown>>>,
): Promise<Config> {
  const { loadConfig: load } = await import('@verfs/config');
  return load(args.config, overrides).config;
}

/** The volume that a command acts on: `--volume`, a path inside a mount, or else the default volume. */
export async function targetOf(args: TargetArguments): Promise<Target> {
  if (args.path !== undefined && args.volume !== undefined) {
    throw new UsageError('A path and --volume were given, and one of them is enough');
  }
  if (args.config !== undefined) {
    // Checked even where nothing of it is used: a mistake in it is told at once.
    await loadConfig(args);
  }
  if (args.volume !== undefined) {
    return { path: placeOf(args.volume), given: 'volume' };
  }
  if (args.path !== undefined) {
    return { path: resolve(args.path), given: 'path' };
  }
  return { path: (await loadConfig(args))['volume.path'], given: 'nothing' };
}
