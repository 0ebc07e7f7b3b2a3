import { ConfigKeyError, ConfigTypeError, ConfigUnitError } from '@verfs/errors';
import { distance } from 'fastest-levenshtein';
import type { z } from 'zod';
import type { KeyDefinition } from './key.ts';

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

/** The one of `keys` that was most likely meant by `name`, if any is near enough. */
export function nearestKey<K extends string>(name: string, keys: readonly K[]): K | undefined {
  const last = (key: string) => key.slice(key.lastIndexOf('.') + 1);
  const scored = keys.map((key) => {
    const whole = distance(name, key) / Math.max(name.length, key.length);
    const tail = distance(last(name), last(key)) / Math.max(last(name).length, last(key).length);
    return { key, score: Math.min(whole, tail + 0.1) };
  });
  const best = scored.reduce((a, b) => (b.score < a.score ? b : a));
  return best.score <= 0.4 ? best.key : undefined;
}

/** A table of keys: `configKeys`, or one like it. */
export type KeyTable = Readonly<Record<string, KeyDefinition<unknown>>>;

/** A value for every key of a table. */
export type ValuesOf<T extends KeyTable> = { readonly [K in keyof T]: z.output<T[K]['schema']> };

/**
 * Checks the values of one source against the table of keys.
 *
 * @param source Named in messages: the path of the file, or an option of the command.
 * @param docs The page that lists every key of the table.
 * @throws ConfigKeyError, ConfigTypeError, ConfigUnitError for the first fault.
 */
export function validate<T extends KeyTable>(
  table: T,
  raw: RawValues,
  source: string,
  docs: string,
): Partial<ValuesOf<T>> {
  const values: Record<string, unknown> = {};
  for (const [name, value] of raw) {
    const definition = Object.hasOwn(table, name) ? table[name] : undefined;
    if (definition === undefined) {
      const nearest = nearestKey(name, Object.keys(table));
      const hint = nearest === undefined ? '' : `; did you mean ${nearest}?`;
      const advice = `${docs} lists every key.`;
      throw new ConfigKeyError(`${source}: there is no key ${name}${hint}`, { path: source, advice });
    }
    const result = definition.schema.safeParse(value);
    if (!result.success) {
      const issue = result.error.issues[0];
      const fault = issue?.code === 'custom' ? issue.params?.['fault'] : 'type';
      const what = `${source}: ${name} ${issue?.message ?? 'is wrong'}, and is ${JSON.stringify(value)} now`;
      const advice = `${docs} has the type and the bounds of every key.`;
      throw fault === 'unit'
        ? new ConfigUnitError(what, { path: source })
        : new ConfigTypeError(what, { path: source, advice });
    }
    values[name] = result.data;
  }
  return values as Partial<ValuesOf<T>>;
}
