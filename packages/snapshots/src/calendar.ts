/** The spans of time of which retention keeps one snapshot each, the shortest first. */
export const spans = ['hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const;

/** A span of time. */
export type Span = (typeof spans)[number];

const dayMs = 86_400_000;

/** The ISO 8601 week of a day (year, month from 1, day), by its Thursday: `2026-W53`. */
function isoWeek(year: number, month: number, day: number): string {
  const time = Date.UTC(year, month - 1, day);
  const daysAfterMonday = (new Date(time).getUTCDay() + 6) % 7;
  const thursday = new Date(time + (3 - daysAfterMonday) * dayMs);
  const dayOfYear = (thursday.getTime() - Date.UTC(thursday.getUTCFullYear(), 0, 1)) / dayMs;
  return `${thursday.getUTCFullYear()}-W${String(Math.floor(dayOfYear / 7) + 1).padStart(2, '0')}`;
}

/**
 * Says in which hour, day, week, month and year of the time zone `zone` a time is, as names that are equal exactly when
 * the spans are. The hour that is repeated when clocks go back is two hours: its name has the offset of the zone.
 */
export function calendar(zone: string): (time: number) => Readonly<Record<Span, string>> {
  const format = new Intl.DateTimeFormat('en', {
    timeZone: zone,
    calendar: 'iso8601',
    hourCycle: 'h23',
    year: 'numeric',
    month: '2-digit',
    day: '2-digit',
    hour: '2-digit',
    timeZoneName: 'longOffset',
  });
  return (time) => {
    const part = Object.fromEntries(format.formatToParts(time).map(({ type, value }) => [type, value]));
    const { year = '', month = '', day = '', hour = '', timeZoneName = '' } = part;
    return {
      hourly: `${year}-${month}-${day} ${hour} ${timeZoneName}`,
      daily: `${year}-${month}-${day}`,
      weekly: isoWeek(Number(year), Number(month), Number(day)),
      monthly: `${year}-${month}`,
      yearly: year,
    };
  };
}
