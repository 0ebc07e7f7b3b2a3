import { Cron } from 'croner';

const days = ['sunday', 'monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday'];
const minuteMs = 60_000;

/** How schedules are written, for messages and docs. */
export const scheduleForms =
  '`off`, `every 15min`, `hourly`, `daily at 02:30`, `weekly on sunday at 02:30` or `monthly on 1 at 02:30`';

/** When snapshots are taken. */
export interface Schedule {
  /** The first time after `time`; both in milliseconds since 1970. */
  next(time: number): number;
  /** About the time from one to the next. */
  readonly intervalMs: number;
}

interface Form {
  readonly pattern: RegExp;
  /** The schedule as cron has it, and its interval in minutes; nothing when a number in it can't be. */
  read(groups: Readonly<Record<string, string | undefined>>): readonly [cron: string, minutes: number] | undefined;
}

const at = String.raw`(?: at (?<hour>[01]?\d|2[0-3]):(?<minute>[0-5]\d))?`;
const timeOf = ({ hour = '0', minute = '0' }: Readonly<Record<string, string | undefined>>) =>
  `${Number(minute)} ${Number(hour)}`;

const forms: readonly Form[] = [
  {
    pattern: /^every (?<count>\d+) ?(?<unit>min|m|h)$/,
    // Those that divide an hour or a day evenly: others would begin anew with each.
    read: ({ count, unit }) => {
      const number = Number(count);
      if (unit === 'h') {
        return number > 0 && 24 % number === 0 && number < 24 ? [`0 */${number} * * *`, 60 * number] : undefined;
      }
      return number >= 5 && 60 % number === 0 && number < 60 ? [`*/${number} * * * *`, number] : undefined;
    },
  },
  { pattern: /^hourly$/, read: () => ['0 * * * *', 60] },
  { pattern: new RegExp(`^daily${at}$`), read: (groups) => [`${timeOf(groups)} * * *`, 24 * 60] },
  {
    pattern: new RegExp(`^weekly(?: on (?<day>[a-z]+))?${at}$`),
    read: (groups) => {
      const day = days.indexOf(groups['day'] ?? 'monday');
      return day < 0 ? undefined : [`${timeOf(groups)} * * ${day}`, 7 * 24 * 60];
    },
  },
  {
    // Every month has these days.
    pattern: new RegExp(`^monthly(?: on (?<date>[1-9]|1\\d|2[0-8]))?${at}$`),
    read: (groups) => [`${timeOf(groups)} ${groups['date'] ?? 1} * *`, 30 * 24 * 60],
  },
];

function read(text: string): readonly [cron: string, minutes: number] | undefined {
  const words = text.trim().toLowerCase().replaceAll(/\s+/g, ' ');
  for (const { pattern, read: readForm } of forms) {
    const match = pattern.exec(words);
    if (match !== null) {
      return readForm(match.groups ?? {});
    }
  }
  return undefined;
}

const isOff = (text: string) => text.trim().toLowerCase() === 'off';

/** What is wrong with `text` as a schedule, for a message; nothing when it is one. */
export function scheduleFault(text: string): string | undefined {
  if (isOff(text) || read(text) !== undefined) {
    return undefined;
  }
  return /^every/i.test(text.trim())
    ? 'is every 5, 6, 10, 12, 15, 20 or 30min, or every 1, 2, 3, 4, 6, 8 or 12h'
    : `is ${scheduleForms.replaceAll('`', '"')}`;
}

/**
 * The schedule that `text` writes, in the time zone `zone`; none for `off`, and for what `scheduleFault` refuses.
 *
 * When clocks go forward and a time is skipped, it is taken at what it would be without the change; of a time that
 * comes twice the first is taken.
 */
export function scheduleOf(text: string, zone: string): Schedule | undefined {
  const found = read(text);
  if (found === undefined) {
    return undefined;
  }
  const [cron, minutes] = found;
  const job = new Cron(cron, { timezone: zone, paused: true });
  return {
    intervalMs: minutes * minuteMs,
    next: (time) => job.nextRun(new Date(time))?.getTime() ?? Number.POSITIVE_INFINITY,
  };
}
