import { pipeline } from 'node:stream/promises';
import { IoError, UsageError } from '@verfs/errors';
import type { Argv } from 'yargs';
import type { CommonArguments, TargetArguments } from '../context.ts';
import { formatBytes, printable } from '../format.ts';
import { createOutput } from '../output.ts';
import { inputBytes, startProgress, transferText } from '../progress.ts';
import { withVolume } from '../volume-access.ts';

interface SendArguments extends TargetArguments {
  readonly snapshot: string;
  readonly from?: string | undefined;
  readonly resume?: string | undefined;
}

interface ReceiveArguments extends TargetArguments {
  readonly rollback?: boolean | undefined;
  readonly status?: boolean | undefined;
}

const target = (yargs: Argv<CommonArguments>) =>
  yargs
    .positional('path', { type: 'string', describe: 'The mountpoint, or a path in the mount' })
    .option('volume', { type: 'string', requiresArg: true, describe: 'Directory of the volume' });

/** Options of `verfs send`. */
export const sendBuilder = (yargs: Argv<CommonArguments>) =>
  target(yargs)
    .positional('snapshot', { type: 'string', demandOption: true, describe: 'The snapshot' })
    .option('from', { type: 'string', requiresArg: true, describe: 'Send only what changed since this snapshot' })
    .option('resume', { type: 'string', requiresArg: true, describe: 'Go on from where `receive` says' })
    .example('$0 send monday > monday.verfs', 'the whole snapshot')
    .example('$0 send tuesday --from monday | ssh host verfs receive', 'what changed, to another machine');

/** Options of `verfs receive`. */
export const receiveBuilder = (yargs: Argv<CommonArguments>) =>
  target(yargs)
    .option('rollback', { type: 'boolean', describe: 'Undo what changed in the volume since the base of the stream' })
    .option('status', { type: 'boolean', describe: 'Tell from where a stream that was cut can go on' })
    .example('$0 receive < monday.verfs', 'into an empty volume, or one that is as the base of the stream');

/** Tells how far a transfer is, of `whole` bytes, if that is known. */
function progressOf(verb: string, args: CommonArguments, whole?: number) {
  const began = performance.now();
  const progress = startProgress(verb, args);
  let bytes = 0;
  return {
    bytes: () => bytes,
    onProgress: (now: number) => {
      bytes = now;
      progress.set(transferText(bytes, (performance.now() - began) / 1000, whole));
    },
    end: progress.end,
  };
}

/** Writes a snapshot as a stream. */
export async function send(args: SendArguments): Promise<void> {
  const { stdout } = process;
  if (args.json) {
    throw new UsageError('The stream is the result of send, which is not JSON', { advice: 'Leave out --json.' });
  }
  if (stdout.isTTY) {
    const advice = 'Send it to a file, as with `> FILE`, or to a command, as with `| verfs receive`.';
    throw new UsageError('A stream is nothing for a terminal', { advice });
  }
  const progress = progressOf('sent', args);
  await withVolume(args, async ({ snapshots }) => {
    const { from, resume, snapshot } = args;
    // Of a stream that doesn't get through nobody has what he wanted.
    stdout.removeAllListeners('error');
    let failed: Error | undefined;
    stdout.on('error', (error) => {
      failed = error;
    });
    try {
      await pipeline(snapshots.send(snapshot, { from, resume, onProgress: progress.onProgress }), stdout, {
        end: false,
      });
    } catch (thrown) {
      const advice = 'Whoever reads it may say from where to go on.';
      throw failed === undefined
        ? thrown
        : new IoError(`The stream cannot be written: ${failed.message}`, { advice, cause: failed });
    } finally {
      progress.end();
    }
  });
}

/** Makes a volume what a stream says, or tells whether one was cut. */
export async function receive(args: ReceiveArguments): Promise<void> {
  const output = createOutput(args.json ? 'json' : 'text');
  if (args.status === true) {
    if (args.rollback === true) {
      throw new UsageError('--status and --rollback exclude each other');
    }
    const resume = await withVolume(args, ({ snapshots }) => snapshots.interruptedReceive());
    const text = resume === null ? 'No stream was cut.' : `A stream was cut: send it with --resume ${resume}`;
    output.result({ resume }, () => [text]);
    return;
  }
  if (process.stdin.isTTY) {
    const advice = 'Take it from a file, as with `< FILE`, or from `verfs send`.';
    throw new UsageError('A stream does not come from a terminal', { advice });
  }
  const progress = progressOf('received', args, inputBytes());
  const snapshot = await withVolume(args, async ({ snapshots }) => {
    try {
      return await snapshots.receive(process.stdin, { rollback: args.rollback, onProgress: progress.onProgress });
    } finally {
      progress.end();
    }
  });
  const bytes = progress.bytes();
  output.result({ snapshot, bytes }, () => [`Received snapshot ${printable(snapshot.name)}, ${formatBytes(bytes)}.`]);
}
