import { defaultsOf, duration, integer, type KeyDefinition, text, type ValuesOf } from '@verfs/config';
import { scheduleFault, scheduleForms } from './schedule.ts';

const noteMaxLength = 1000;

const keep = (what: string) => integer({ default: 0, min: 0, max: 100_000, help: what });

/** Every key of a policy: the only table of its kind. Durations are in milliseconds. */
export const policyKeys = {
  schedule: text({
    default: 'off',
    type: scheduleForms,
    help: 'When a running daemon takes a snapshot. `off`: it takes and prunes none by itself.',
    check: scheduleFault,
  }),
  note: text({
    default: '',
    type: 'text',
    help: 'The note of snapshots that it takes.',
    check: (value) => (value.length > noteMaxLength ? `has at most ${noteMaxLength} characters` : undefined),
  }),
  'keep.last': keep('Keeps so many of the newest.'),
  'keep.hourly': keep('Keeps the newest of each hour that has one, for so many hours.'),
  'keep.daily': keep('Keeps the newest of each day, for so many days.'),
  'keep.weekly': keep('Keeps the newest of each week (from Monday), for so many weeks.'),
  'keep.monthly': keep('Keeps the newest of each month, for so many months.'),
  'keep.yearly': keep('Keeps the newest of each year, for so many years.'),
  'keep.min_age': duration({
    default: '0s',
    min: '0s',
    max: '36500d',
    help: 'None that is younger is pruned, whatever the other keys say.',
  }),
  scrub: text({
    default: 'monthly',
    type: scheduleForms,
    help: 'When a running daemon checks everything that is stored. `off`: only when somebody asks.',
    check: scheduleFault,
  }),
} as const satisfies Record<string, KeyDefinition<unknown>>;

/** Name of a key of a policy. */
export type PolicyKey = keyof typeof policyKeys;

/** Every key, in the order of the table. */
export const policyKeyNames = Object.keys(policyKeys) as PolicyKey[];

/** When snapshots of a volume are taken, and which of them are kept: a value for every key. */
export type Policy = ValuesOf<typeof policyKeys>;

/** New values of some keys, as TOML has them: a duration is a text such as `"2d"`. */
export type PolicyChanges = Readonly<Partial<Record<PolicyKey, string | number>>>;

/** The policy of a volume that has none. */
export const noPolicy: Policy = defaultsOf(policyKeys);

/** The rows of the table of keys in docs/SNAPSHOTS.md. */
export const policyRows = (): string[] =>
  policyKeyNames.map((name) => {
    const { type, defaultText, help } = policyKeys[name];
    return `| \`${name}\` | ${type} | \`${defaultText}\` | ${help} |`;
  });
