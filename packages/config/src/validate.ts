import { ConfigKeyError, ConfigTypeError, ConfigUnitError } from '@verfs/errors';
import { distance } from 'fastest-levenshtein';
import { type Config, type ConfigKey, configKeyNames, configKeys } from './keys.ts';

/** Values as they come from TOML: by dotted name, tables resolved. */
export type RawValues = ReadonlyMap<string, unknown>;

/** The values of `table` and of the tables in it, by dotted name. */
export function flatten(table: object, prefix = ''): Map<string, unknown> {
  const values = new Map<string, unknown>();
  for (const [name, value] of Object.entries(table)) {
    const key = prefix + name;
    if (
      typeof value === 'object' &&
      value !== null &&
      Object.getPrototypeOf(value) !== Array.prototype &&
      !isDate(value)
    ) {
      for (const [inner, innerValue] of flatten(value, `${key}.`)) {
        values.set(inner, innerValue);
      }
    } else {
      values.set(key, value);
    }
  }
  return values;
}

const isDate = (value: object) => value instanceof Date;

const isConfigKey = (name: string): name is ConfigKey => Object.hasOwn(configKeys, name);

/** The key that was most likely meant by `name`, if any is near enough. */
export function nearestKey(name: string): ConfigKey | undefined {
  const last = (key: string) => key.slice(key.lastIndexOf('.') + 1);
  const scored = configKeyNames.map((key) => {
    const whole = distance(name, key) / Math.max(name.length, key.length);
    const tail = distance(last(name), last(key)) / Math.max(last(name).length, last(key).length);
    return { key, score: Math.min(whole, tail + 0.1) };
  });
  const best = scored.reduce((a, b) => (b.score < a.score ? b : a));
  return best.score <= 0.4 ? best.key : undefined;
}

/**
 * Checks the values of one source.
 *
 * @param source Named in messages: the path of the file, or an option of the command.
 * @throws ConfigKeyError, ConfigTypeError, ConfigUnitError for the first fault.
 */
export function validate(raw: RawValues, source: string): Partial<Config> {
  const values: Record<string, unknown> = {};
  for (const [name, value] of raw) {
    if (!isConfigKey(name)) {
      const nearest = nearestKey(name);
      const hint = nearest === undefined ? '' : `; did you mean ${nearest}?`;
      throw new ConfigKeyError(`${source}: there is no key ${name}${hint}`, { path: source });
    }
    const result = configKeys[name].schema.safeParse(value);
    if (!result.success) {
      const issue = result.error.issues[0];
      const fault = issue?.code === 'custom' ? issue.params?.['fault'] : 'type';
      const what = `${source}: ${name} ${issue?.message ?? 'is wrong'}, and is ${JSON.stringify(value)} now`;
      throw fault === 'unit'
        ? new ConfigUnitError(what, { path: source })
        : new ConfigTypeError(what, { path: source });
    }
    values[name] = result.data;
  }
  return values;
}
