import { fstatSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { CommonArguments } from './context.ts';
import { formatBytes } from './format.ts';

/** What takes less is not told of on a terminal, in milliseconds. */
const silentMs = 2000;
/** How often a line on a terminal is written anew, in milliseconds. */
const terminalMs = 500;
/** When a line is written first, and how often, where lines stay, in milliseconds. */
const plainMs = 10_000;

/** Tells people on standard error how far something is. */
export interface Progress {
  /** From now on `text` is how far it is. */
  set(text: string): void;
  /** It has ended. */
  end(): void;
}

/** A span of time for people: `75` is `1:15`. */
function formatSpan(seconds: number): string {
  const whole = Math.max(Math.round(seconds), 0);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60)];
  const padded = (part: number) => String(part).padStart(2, '0');
  return `${hours > 0 ? `${hours}:${padded(minutes)}` : minutes}:${padded(whole % 60)}`;
}

/** What is done after `seconds`: amount, rate, and, where the whole is known, of how much, and the time that is left. */
export function transferText(bytes: number, seconds: number, whole?: number): string {
  const rate = bytes / Math.max(seconds, 0.001);
  const amount = whole === undefined ? formatBytes(bytes) : `${formatBytes(bytes)} of ${formatBytes(whole)}`;
  const text = `${amount}, ${formatBytes(Math.round(rate))}/s`;
  return whole === undefined || rate === 0 ? text : `${text}, ${formatSpan((whole - bytes) / rate)} left`;
}

/**
 * How many of about `expected` records were looked at after `seconds`: share, amount, rate, and about the time that is
 * left, as long as the guess holds.
 */
export function recordsText(records: number, seconds: number, expected: number): string {
  const rate = records / Math.max(seconds, 0.001);
  const text = `${records} records, ${Math.round(rate)}/s`;
  if (records === 0 || records >= expected) {
    return text;
  }
  const share = Math.floor((100 * records) / expected);
  return `about ${share} %, ${text}, ${formatSpan((expected - records) / rate)} left`;
}

/**
 * Tells how far `what` is: on a terminal in one line, once it takes more than two seconds, else in lines every ten; with
 * `--quiet` and `--json` not at all.
 */
export function startProgress(what: string, args: CommonArguments): Progress {
  const { stderr } = process;
  const began = performance.now();
  let text = '';
  let isShown = false;
  const line = () => `${what}: ${text === '' ? '' : `${text}, `}${formatSpan((performance.now() - began) / 1000)}`;
  const show = () => {
    isShown = true;
    stderr.write(stderr.isTTY ? `\r\u001b[K${line()}` : `${line()}\n`);
  };
  const isSilent = args.quiet === true || args.json;
  const timer = isSilent
    ? undefined
    : setTimeout(
        () => {
          show();
          repeat = setInterval(show, stderr.isTTY ? terminalMs : plainMs).unref();
        },
        stderr.isTTY ? silentMs : plainMs,
      ).unref();
  let repeat: NodeJS.Timeout | undefined;
  return {
    set: (now) => {
      text = now;
    },
    end: () => {
      clearTimeout(timer);
      clearInterval(repeat);
      if (isShown && stderr.isTTY) {
        stderr.write(`\r\u001b[K${line()}\n`);
      }
    },
  };
}

/** How often it is asked how far something is, in milliseconds. */
const askedMs = 500;

/** Runs `work`, and tells how long it takes, and what `howFar` says meanwhile, if it is given. */
export async function withProgress<T>(
  what: string,
  args: CommonArguments,
  work: () => Promise<T>,
  howFar?: () => Promise<string>,
): Promise<T> {
  const progress = startProgress(what, args);
  let isDone = false;
  const watch = async () => {
    while (howFar !== undefined && !isDone) {
      await sleep(askedMs, undefined, { ref: false });
      progress.set(await howFar());
    }
  };
  // What can't be told is no reason to stop.
  watch().catch(() => undefined);
  try {
    return await work();
  } finally {
    isDone = true;
    progress.end();
  }
}

/** The length of standard input, where it is a file. */
export function inputBytes(): number | undefined {
  const status = fstatSync(0);
  return status.isFile() ? status.size : undefined;
}
