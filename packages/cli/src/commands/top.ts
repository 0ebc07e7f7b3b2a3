import { setTimeout as sleep } from 'node:timers/promises';
import { UsageError } from '@verfs/errors';
import type { VolumeClient } from '@verfs/sdk';
import type { Argv } from 'yargs';
import { type CommonArguments, type TargetArguments, targetOf } from '../context.ts';
import { createOutput } from '../output.ts';
import { type Rates, ratesOf, type Sample, topScreen } from '../top-screen.ts';

interface TopArguments extends TargetArguments {
  readonly interval: string;
  readonly count?: number | undefined;
  readonly once?: boolean | undefined;
}

/** Options of `verfs top`. */
export const topBuilder = (yargs: Argv<CommonArguments>) =>
  yargs
    .positional('path', { type: 'string', describe: 'The mountpoint, or a path in the mount' })
    .option('volume', { type: 'string', requiresArg: true, describe: 'Directory of the volume' })
    .option('interval', { type: 'string', default: '1s', requiresArg: true, describe: 'Time between two looks' })
    .option('count', { type: 'number', requiresArg: true, describe: 'End after so many; by default with q or Ctrl+C' })
    .option('once', { type: 'boolean', describe: 'The same as --count 1' })
    .example('$0 top ~/verfs', 'operations, throughput, caches and garbage collection, as they are now')
    .example('$0 top ~/verfs --once --json', 'what happens within a second, for programs');

const control = '\u001b[';
/** The other screen of a terminal, without a cursor; and back. */
const [enter, leave] = [`${control}?1049h${control}?25l`, `${control}?25h${control}?1049l`];

/** Who looks on at a terminal, until he has seen enough. */
interface Screen {
  readonly ended: AbortSignal;
  show(lines: readonly string[]): void;
  close(): void;
}

/** What of `lines` a terminal has room for; one that doesn't know its size says 0. */
export function linesThatFit(lines: readonly string[], { rows, columns }: { rows: number; columns: number }): string[] {
  const [most, longest] = [rows > 0 ? Math.max(rows - 1, 1) : lines.length, columns > 0 ? columns : undefined];
  return lines.slice(0, most).map((line) => line.slice(0, longest));
}

function openScreen(): Screen {
  const { stdin, stdout } = process;
  const end = new AbortController();
  const onSignal = () => end.abort();
  const onKey = (key: Buffer) => {
    if (['q', 'Q', '\u0003', '\u0004'].includes(key.toString('latin1'))) {
      end.abort();
    }
  };
  const isBold = process.env['NO_COLOR'] === undefined || process.env['NO_COLOR'] === '';
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  if (stdin.isTTY) {
    stdin.setRawMode(true).on('data', onKey).resume();
  }
  stdout.write(enter);
  return {
    ended: end.signal,
    show: (lines) => {
      const [heading = '', ...rest] = linesThatFit(lines, stdout);
      const shown = [isBold ? `${control}1m${heading}${control}0m` : heading, ...rest];
      stdout.write(`${control}H${shown.map((line) => `${line}${control}K`).join('\r\n')}${control}J`);
    },
    close: () => {
      process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
      if (stdin.isTTY) {
        stdin.off('data', onKey).setRawMode(false).pause();
      }
      stdout.write(leave);
    },
  };
}

async function sample(client: VolumeClient): Promise<Sample> {
  const [stats, gc] = await Promise.all([client.stats(), client.gcStatus()]);
  return { at: performance.now(), stats, gc };
}

async function* looks(
  client: VolumeClient,
  { intervalMs, count, signal }: { intervalMs: number; count: number; signal: AbortSignal | undefined },
): AsyncGenerator<{ readonly rates: Rates; readonly now: Sample }> {
  let before = await sample(client);
  for (let look = 0; look < count; look += 1) {
    try {
      await sleep(intervalMs, undefined, signal === undefined ? {} : { signal });
    } catch {
      return;
    }
    const now = await sample(client);
    yield { rates: ratesOf(before, now), now };
    before = now;
  }
}

/** Shows what a mounted volume does, as it does it. */
export async function top(args: TopArguments): Promise<void> {
  const { durationMs } = await import('../quantities.ts');
  const intervalMs = durationMs('interval', args.interval);
  if (intervalMs < 100 || intervalMs > 3_600_000) {
    throw new UsageError(`--interval ${args.interval} is out of bounds`, { advice: 'Write 100ms to 1h.' });
  }
  const given = args.once === true ? 1 : args.count;
  if (given !== undefined && !(Number.isInteger(given) && given > 0)) {
    throw new UsageError(`--count ${given} is no count`, { advice: 'Write a whole number from 1 on.' });
  }
  const output = createOutput(args.json ? 'json' : 'text');
  const { VolumeClient: Client } = await import('@verfs/sdk/control');
  await using client = await Client.connect((await targetOf(args)).path);
  const { mountpoint } = client.served;
  const screen = process.stdout.isTTY && !args.json && args.once !== true ? openScreen() : undefined;
  try {
    const options = { intervalMs, count: given ?? Number.POSITIVE_INFINITY, signal: screen?.ended };
    for await (const { rates, now } of looks(client, options)) {
      const lines = topScreen(mountpoint, rates, now);
      if (screen !== undefined) {
        screen.show(lines);
      } else if (
        (await output.item({ rates, stats: now.stats, gc: now.gc }, () => `${lines.join('\n')}\n`)) === 'enough'
      ) {
        return;
      }
    }
  } finally {
    screen?.close();
  }
}
