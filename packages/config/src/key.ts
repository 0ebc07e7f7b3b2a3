import { z } from 'zod';
import { durationUnits, formatQuantity, parseQuantity, sizeUnits } from './units.ts';

/** The definition of one configuration key: validation, default, help and documentation all come from it. */
export interface KeyDefinition<T> {
  /** Reads a TOML value. Custom issues carry `params.fault`. */
  readonly schema: z.ZodType<T>;
  /** The type as docs and messages name it, with its bounds. */
  readonly type: string;
  /** The default as one would write it in TOML. */
  readonly defaultText: string;
  /** One or two sentences. */
  readonly help: string;
  /** Of numbers: the least and the most that the value may be. */
  readonly bounds?: { readonly min: number; readonly max: number };
  /** Whether a mounted volume takes it without being mounted anew. */
  readonly isLive?: true;
}

/** A key that a mounted volume takes anew: by SIGHUP, or `verfs config set`. */
export const live = <T>(definition: KeyDefinition<T>): KeyDefinition<T> & { readonly isLive: true } => ({
  ...definition,
  isLive: true,
});

/** What is wrong with a value. */
export type Fault = 'type' | 'unit';

interface Quantity {
  readonly default: string;
  readonly min: string;
  readonly max: string;
  readonly help: string;
}

function quantity(
  kind: 'size' | 'duration',
  units: Readonly<Record<string, number>>,
  spec: Quantity,
  scale: number,
): KeyDefinition<number> {
  const bound = (text: string) => {
    const amount = parseQuantity(text, units);
    if (typeof amount !== 'number') {
      throw new RangeError(`the definition has a bound without a unit: ${text}`);
    }
    return amount;
  };
  const [min, max] = [bound(spec.min), bound(spec.max)];
  const example = spec.default;
  const schema = z.unknown().transform((value, context) => {
    const issue = (fault: Fault, message: string) => {
      context.addIssue({ code: 'custom', params: { fault }, message, input: value });
      return z.NEVER;
    };
    if (typeof value === 'number') {
      return issue('unit', `needs a unit, for example "${example}"`);
    }
    if (typeof value !== 'string') {
      return issue('type', `is a ${kind} such as "${example}"`);
    }
    const amount = parseQuantity(value, units);
    if (amount === 'unit') {
      return issue('unit', `needs one of the units ${Object.keys(units).join(', ')}, for example "${example}"`);
    }
    if (amount === 'number') {
      return issue('type', `is a ${kind} such as "${example}"`);
    }
    if (amount < min || amount > max) {
      return issue('type', `is at least ${spec.min} and at most ${spec.max}`);
    }
    return amount / scale;
  });
  return {
    schema,
    type: `${kind}, ${spec.min} to ${spec.max}`,
    defaultText: `"${formatQuantity(bound(spec.default), units)}"`,
    help: spec.help,
    bounds: { min: min / scale, max: max / scale },
  };
}

/** A size; the value is in bytes. */
export const size = (spec: Quantity) => quantity('size', sizeUnits, spec, 1);

/** A duration; the value is in milliseconds. */
export const duration = (spec: Quantity) => quantity('duration', durationUnits, spec, 1000);

/** A whole number. */
export const integer = (spec: { default: number; min: number; max: number; help: string }): KeyDefinition<number> => ({
  schema: z
    .number(`is a whole number`)
    .int('is a whole number')
    .min(spec.min, boundsText(spec))
    .max(spec.max, boundsText(spec)),
  type: `whole number, ${spec.min} to ${spec.max}`,
  defaultText: String(spec.default),
  help: spec.help,
  bounds: spec,
});

const boundsText = (spec: { min: number; max: number }) => `is at least ${spec.min} and at most ${spec.max}`;

/** `true` or `false`. */
export const flag = (spec: { default: boolean; help: string }): KeyDefinition<boolean> => ({
  schema: z.boolean('is true or false'),
  type: 'true or false',
  defaultText: String(spec.default),
  help: spec.help,
});

/** One of a few words. */
export const choice = <const T extends readonly [string, ...string[]]>(spec: {
  values: T;
  default: T[number];
  help: string;
}): KeyDefinition<T[number]> => ({
  schema: z.enum(spec.values, `is one of ${spec.values.map((value) => `"${value}"`).join(', ')}`),
  type: spec.values.map((value) => `\`"${value}"\``).join(', '),
  defaultText: `"${spec.default}"`,
  help: spec.help,
});

/** A path; `~/` at its start is the home directory. */
export const path = (spec: { default: string; help: string }): KeyDefinition<string> => ({
  schema: z.string('is a path').min(1, 'is a path'),
  type: 'path',
  defaultText: `"${spec.default}"`,
  help: spec.help,
});

/** A text of one line that `check` takes; it says what is wrong with another, or else nothing. */
export const text = (spec: {
  default: string;
  type: string;
  help: string;
  check: (value: string) => string | undefined;
}): KeyDefinition<string> => ({
  schema: z.string(`is ${spec.type}`).superRefine((value, context) => {
    const fault = /\p{Cc}/u.test(value) ? 'has no control characters' : spec.check(value);
    if (fault !== undefined) {
      context.addIssue({ code: 'custom', params: { fault: 'type' satisfies Fault }, message: fault, input: value });
    }
  }),
  type: spec.type,
  defaultText: JSON.stringify(spec.default),
  help: spec.help,
});

/** A list of texts. */
export const texts = (spec: { help: string }): KeyDefinition<readonly string[]> => ({
  schema: z.array(z.string('is a list of texts'), 'is a list of texts').readonly(),
  type: 'list of texts',
  defaultText: '[]',
  help: spec.help,
});
