import type { LogRecord } from './index.ts';

/** Records that say the same of which each window takes so many; the others are counted. */
const takenPerWindow = 100;
/** Length of a window, in milliseconds. */
const windowMs = 10_000;
/** Different messages that are told apart at once. */
const kindsMax = 1000;
/** Of a message so many characters say what it is about. */
const kindCharacters = 60;

interface Kind {
  windowBegan: number;
  taken: number;
  left: number;
  last: LogRecord;
}

/** What a record is about: its source and its words, not the numbers in them. */
const kindOf = ({ level, target, message }: LogRecord) =>
  `${level} ${target} ${message.slice(0, kindCharacters).replaceAll(/[0-9a-f]*\d[0-9a-f]*/gi, '0')}`;

const summary = ({ last, left }: Kind): LogRecord => ({
  ...last,
  message: `(${left} records like this one were left out before it) ${last.message}`,
});

/**
 * Keeps what happens again and again from filling the log: a client that reads a damaged file in a loop must not push
 * out what happened before. Time is that of the records.
 */
export class Flood {
  readonly #kinds = new Map<string, Kind>();

  /** What is to be written when `record` comes. */
  take(record: LogRecord): LogRecord[] {
    const key = kindOf(record);
    const kind = this.#kinds.get(key);
    // A clock that was set back begins a new window, too.
    if (kind === undefined || Math.abs(record.time - kind.windowBegan) >= windowMs) {
      const ended = kind === undefined || kind.left === 0 ? [] : [summary(kind)];
      const overflow = this.#kinds.size >= kindsMax ? this.end() : [];
      this.#kinds.set(key, { windowBegan: record.time, taken: 1, left: 0, last: record });
      return [...ended, ...overflow, record];
    }
    if (kind.taken < takenPerWindow) {
      kind.taken += 1;
      return [record];
    }
    kind.left += 1;
    kind.last = record;
    return [];
  }

  /** What is to be written when nothing more comes. */
  end(): LogRecord[] {
    const ended = [...this.#kinds.values()].filter(({ left }) => left > 0).map(summary);
    this.#kinds.clear();
    return ended;
  }
}
