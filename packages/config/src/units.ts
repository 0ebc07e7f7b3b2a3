/** Bytes of each unit of size. */
export const sizeUnits = {
  B: 1,
  KiB: 1024,
  MiB: 1024 ** 2,
  GiB: 1024 ** 3,
  TiB: 1024 ** 4,
  kB: 1000,
  MB: 1000 ** 2,
  GB: 1000 ** 3,
  TB: 1000 ** 4,
  // As people write them, and other commands read them.
  K: 1024,
  M: 1024 ** 2,
  G: 1024 ** 3,
  T: 1024 ** 4,
} as const;

/** Microseconds of each unit of time. */
export const durationUnits = {
  us: 1,
  ms: 1000,
  s: 1_000_000,
  min: 60_000_000,
  h: 3_600_000_000,
  d: 86_400_000_000,
  m: 60_000_000,
  w: 7 * 86_400_000_000,
} as const;

/** Units that are read, and not written: others say the same more clearly. */
const readOnlyUnits = ['K', 'M', 'G', 'T', 'm', 'w'];

/** What is wrong with the text of a quantity: its unit, or the rest of it. */
export type QuantityFault = 'unit' | 'number';

/** `text` such as `64MiB` in the smallest of `units`. */
export function parseQuantity(text: string, units: Readonly<Record<string, number>>): number | QuantityFault {
  const match = /^\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*$/.exec(text);
  if (match === null) {
    return 'number';
  }
  const unit = units[match[2] ?? ''];
  return unit === undefined ? 'unit' : Math.round(Number(match[1]) * unit);
}

/** The shortest exact text of `amount`, binary units first: `67108864` is `64MiB`. */
export function formatQuantity(amount: number, units: Readonly<Record<string, number>>): string {
  const exact = Object.entries(units).filter(
    ([unit, factor]) => amount % factor === 0 && !readOnlyUnits.includes(unit),
  );
  const [unit, factor] = exact.reduce((best, next) => (amount / next[1] < amount / best[1] ? next : best));
  return `${amount / factor}${unit}`;
}
