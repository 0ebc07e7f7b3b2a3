import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { isAbsolute, join, resolve } from 'node:path';
import { ConfigFileError } from '@verfs/errors';
import { parse, TomlError } from 'smol-toml';
import { type Config, type ConfigKey, configKeys } from './keys.ts';
import { flatten, type KeyTable, type RawValues, type ValuesOf, validate } from './validate.ts';

/** Who asks, and where his files are; by default this process. */
export interface Surroundings {
  readonly uid: number;
  readonly home: string;
  /** `$XDG_CONFIG_HOME`, when set. */
  readonly configHome?: string | undefined;
  /** `$XDG_DATA_HOME`, when set. */
  readonly dataHome?: string | undefined;
  /** `$XDG_STATE_HOME`, when set. */
  readonly stateHome?: string | undefined;
}

/** The surroundings of this process. */
export function currentSurroundings(): Surroundings {
  const { XDG_CONFIG_HOME, XDG_DATA_HOME, XDG_STATE_HOME } = process.env;
  return {
    uid: process.getuid?.() ?? 0,
    home: homedir(),
    configHome: XDG_CONFIG_HOME,
    dataHome: XDG_DATA_HOME,
    stateHome: XDG_STATE_HOME,
  };
}

/** Where a configuration came from. */
export interface LoadedConfig {
  readonly config: Config;
  /** The file that was read; none when there is none. */
  readonly file: string | undefined;
}

const systemFile = '/etc/verfs/config.toml';

/** The files that are read when none is named, the first one present wins. */
export function defaultFiles(from: Surroundings): string[] {
  const own = join(from.configHome || join(from.home, '.config'), 'verfs', 'config.toml');
  return from.uid === 0 ? [systemFile, own] : [own];
}

/**
 * The text of `file`; none when there is no such file.
 *
 * @throws ConfigFileError
 */
export function readIfPresent(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') {
      return undefined;
    }
    throw new ConfigFileError(`${file}: cannot be read: ${message}`, { path: file, cause });
  }
}

/**
 * The table that the TOML `text` is.
 *
 * @param file Where it comes from, for messages.
 * @throws ConfigFileError
 */
export function parseToml(text: string, file: string): object {
  try {
    return parse(text);
  } catch (cause) {
    if (cause instanceof TomlError) {
      const reason = cause.message.split('\n')[0]?.replace(/^Invalid TOML document:\s*/, '') ?? '';
      const what = `${file}:${cause.line}:${cause.column}: not TOML: ${reason}`;
      throw new ConfigFileError(what, { path: file, cause });
    }
    throw cause;
  }
}

/** `path` with `~/` resolved, relative ones from the current directory. */
export function resolvePath(path: string, from: Surroundings): string {
  const xdg: [string, string | undefined][] = [
    ['~/.local/share/', from.dataHome],
    ['~/.local/state/', from.stateHome],
  ];
  for (const [prefix, base] of xdg) {
    if (base && isAbsolute(base) && path.startsWith(prefix)) {
      return join(base, path.slice(prefix.length));
    }
  }
  return path === '~' || path.startsWith('~/') ? join(from.home, path.slice(1)) : resolve(path);
}

const checked = (raw: RawValues, source: string) => validate(configKeys, raw, source, 'docs/CONFIG.md');

/** The default of every key of `table`. */
export function defaultsOf<T extends KeyTable>(table: T): ValuesOf<T> {
  const entries = Object.entries(table);
  const values = entries.map(([name, { schema, defaultText }]) => [name, schema.parse(JSON.parse(defaultText))]);
  return Object.fromEntries(values) as ValuesOf<T>;
}

/** The defaults alone, for `from`. */
export function defaultConfig(from: Surroundings = currentSurroundings()): Config {
  return withPaths(defaultsOf(configKeys), from);
}

function withPaths(config: Config, from: Surroundings): Config {
  return {
    ...config,
    'volume.path': resolvePath(config['volume.path'], from),
    'mount.point': resolvePath(config['mount.point'], from),
    'daemon.log_directory': resolvePath(config['daemon.log_directory'], from),
  };
}

/**
 * The configuration: defaults, then the file, then `overrides` (from the command line, TOML values by key).
 *
 * @param file The file to read; without one the first of `defaultFiles` that is there.
 * @throws ConfigFileError, ConfigKeyError, ConfigTypeError, ConfigUnitError
 */
export function loadConfig(
  file?: string,
  overrides: Readonly<Partial<Record<ConfigKey, unknown>>> = {},
  from: Surroundings = currentSurroundings(),
): LoadedConfig {
  let config = defaultConfig(from);
  let used: string | undefined;
  for (const candidate of file === undefined ? defaultFiles(from) : [resolve(file)]) {
    const text = readIfPresent(candidate);
    if (text !== undefined) {
      config = { ...config, ...checked(flatten(parseToml(text, candidate)), candidate) };
      used = candidate;
      break;
    }
    if (file !== undefined) {
      throw new ConfigFileError(`${candidate}: there is no such file`, { path: candidate });
    }
  }
  config = { ...config, ...checked(new Map(Object.entries(overrides)), 'command line') };
  return { config: withPaths(config, from), file: used };
}
