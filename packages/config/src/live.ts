import { UsageError } from '@verfs/errors';
import { type Config, type ConfigKey, configKeys, type LiveKey, liveKeyNames } from './keys.ts';
import { validate } from './validate.ts';

const source = 'command line';
const docs = 'docs/CONFIG.md';

/**
 * Checks that there is a key `name`.
 *
 * @throws ConfigKeyError
 */
export function checkKey(name: string): ConfigKey {
  if (!Object.hasOwn(configKeys, name)) {
    validate(configKeys, new Map([[name, '']]), source, docs);
  }
  return name as ConfigKey;
}

/**
 * The value of one key that a mounted volume takes anew. `value` is as in the configuration file.
 *
 * @throws ConfigKeyError, ConfigTypeError, ConfigUnitError; UsageError for a key that takes effect with the next mount.
 */
export function checkLive(key: string, value: string | number): Partial<Pick<Config, LiveKey>> {
  const known = checkKey(key);
  if (!(liveKeyNames as readonly string[]).includes(known)) {
    const advice = `Put it into the configuration file; ${liveKeyNames.join(' and ')} can be changed at once.`;
    throw new UsageError(`${key} takes effect with the next mount only`, { advice });
  }
  return validate(configKeys, new Map([[key, value]]), source, docs) as Partial<Pick<Config, LiveKey>>;
}
