import { closeSync, fsyncSync, openSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { flatten, parseToml, readIfPresent, validate } from '@verfs/config';
import { IoError, PermissionError, VolumeFullError, VolumeReadOnlyError } from '@verfs/errors';
import { stringify } from 'smol-toml';
import { noPolicy, type Policy, type PolicyChanges, policyKeyNames, policyKeys } from './keys.ts';

const docs = 'docs/SNAPSHOTS.md';

/** The file of the policy in the directory of a volume. */
export const policyFile = (volume: string): string => join(volume, 'policy.toml');

function readValues(file: string): Map<string, unknown> {
  const text = readIfPresent(file);
  return text === undefined ? new Map() : flatten(parseToml(text, file));
}

/**
 * The policy of the volume in the directory `volume`.
 *
 * @throws ConfigFileError, ConfigKeyError, ConfigTypeError, ConfigUnitError
 */
export function readPolicy(volume: string): Policy {
  const file = policyFile(volume);
  return { ...noPolicy, ...validate(policyKeys, readValues(file), file, docs) };
}

/** `values` as tables, in the order of the keys. */
function tomlOf(values: ReadonlyMap<string, unknown>): string {
  const top: Record<string, unknown> = {};
  for (const key of policyKeyNames.filter((name) => values.has(name))) {
    const [first, second] = key.split('.') as [string, string?];
    if (second === undefined) {
      top[first] = values.get(key);
    } else {
      top[first] = { ...(top[first] as object | undefined), [second]: values.get(key) };
    }
  }
  return stringify(top);
}

function syncDirectory(path: string): void {
  const descriptor = openSync(path, 'r');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** Writes `text` so that after a power loss the file is the old or the new one. */
function replace(volume: string, text: string): void {
  const file = policyFile(volume);
  const next = `${file}.new`;
  const descriptor = openSync(next, 'w', 0o600);
  try {
    writeFileSync(descriptor, text);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
  renameSync(next, file);
  syncDirectory(volume);
}

function writeFailure(file: string, cause: NodeJS.ErrnoException): Error {
  const what = `${file} cannot be written: ${cause.message}`;
  const details = { path: file, cause };
  switch (cause.code) {
    case 'EACCES':
    case 'EPERM':
      return new PermissionError(what, details);
    case 'EROFS':
      return new VolumeReadOnlyError(what, details);
    case 'ENOSPC':
    case 'EDQUOT':
      return new VolumeFullError(what, details);
    default:
      return new IoError(what, details);
  }
}

/**
 * Changes some values of the policy of the volume in the directory `volume`, which this process has open.
 *
 * @returns The whole policy as it is from then on.
 * @throws ConfigKeyError, ConfigTypeError, ConfigUnitError for a wrong change; ConfigFileError; PermissionError,
 * VolumeReadOnlyError, VolumeFullError, IoError
 */
export function changePolicy(volume: string, changes: PolicyChanges): Policy {
  const file = policyFile(volume);
  const given = new Map<string, unknown>(Object.entries(changes).filter(([, value]) => value !== undefined));
  const checked = validate(policyKeys, given, 'policy', docs);
  const before = readValues(file);
  const policy = { ...noPolicy, ...validate(policyKeys, before, file, docs), ...checked };
  try {
    replace(volume, tomlOf(new Map([...before, ...given])));
  } catch (cause) {
    throw writeFailure(file, cause as NodeJS.ErrnoException);
  }
  return policy;
}
