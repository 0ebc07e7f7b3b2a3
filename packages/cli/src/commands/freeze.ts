import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { FreezeBrokenError, IoError, shellQuoted } from '@verfs/errors';
import type { Argv } from 'yargs';
import { type CommonArguments, type TargetArguments, targetOf } from '../context.ts';
import { createOutput, type Output } from '../output.ts';
import { durationMs } from '../quantities.ts';

interface FreezeArguments extends TargetArguments {
  readonly for: string;
  /** The command behind `--`. */
  readonly '--'?: readonly string[];
}

const volumeOption = { type: 'string', requiresArg: true, describe: 'Directory of the volume' } as const;

/** Options of `verfs volume freeze`. */
export const freezeBuilder = (yargs: Argv<CommonArguments>) =>
  yargs
    .positional('path', { type: 'string', describe: 'The mountpoint, or a path in the mount' })
    .option('volume', volumeOption)
    .option('for', { type: 'string', default: '60s', requiresArg: true, describe: 'How long at most' })
    .parserConfiguration({ 'populate--': true })
    .example('$0 volume freeze ~/verfs -- cp -a /srv/a /mnt/usb/a', 'holds it still until the copy is done')
    .example('$0 volume freeze ~/verfs --for 30s', 'holds it still until `verfs volume thaw`, or 30 s');

/** Options of `verfs volume thaw`. */
export const thawBuilder = (yargs: Argv<CommonArguments>) =>
  yargs
    .positional('path', { type: 'string', describe: 'The mountpoint, or a path in the mount' })
    .option('volume', volumeOption)
    .example('$0 volume thaw ~/verfs', 'lets it go on, and tells whether a copy of it is good');

async function client(args: TargetArguments) {
  const { VolumeClient } = await import('@verfs/sdk/control');
  return await VolumeClient.connect((await targetOf(args)).path);
}

/**
 * Runs a command with our input and output; its exit code, as a shell tells it. Where our output is JSON, what the command
 * writes goes to standard error.
 */
function run(command: readonly string[], form: Output['form']): Promise<number> {
  const [program = '', ...words] = command;
  return new Promise((done, failed) => {
    const child = spawn(program, words, { stdio: ['inherit', form === 'json' ? 2 : 'inherit', 'inherit'] });
    // A terminal sends Ctrl+C to both, and what the command makes of it is up to it.
    const onSignal = (signal: NodeJS.Signals) => child.kill(signal);
    const ignore = () => undefined;
    process.on('SIGINT', ignore).on('SIGTERM', onSignal);
    const settle = () => process.off('SIGINT', ignore).off('SIGTERM', onSignal);
    child.once('error', (cause) => {
      settle();
      failed(new IoError(`${shellQuoted(program)} cannot be run: ${cause.message}`, { path: program, cause }));
    });
    child.once('exit', (code, signal) => {
      settle();
      done(code ?? 128 + constants.signals[signal as NodeJS.Signals]);
    });
  });
}

/** Holds a mounted volume still, so that its directory can be copied. */
export async function volumeFreeze(args: FreezeArguments): Promise<void> {
  const output = createOutput(args.json ? 'json' : 'text');
  const forMs = durationMs('for', args.for);
  const command = args['--'] ?? [];
  await using daemon = await client(args);
  const { volume, mountpoint } = daemon.served;
  await daemon.freeze(forMs);
  if (command.length === 0) {
    output.result({ volume, mountpoint, forMs }, () => [
      `${volume} stands still for ${args.for} at most: copy it, then run: verfs volume thaw ${shellQuoted(mountpoint)}`,
    ]);
    return;
  }
  let code: number | undefined;
  try {
    code = await run(command, output.form);
  } finally {
    // Of a command that could not be run there is no copy that could be good.
    await daemon.thaw().catch((error: unknown) => {
      if (code !== undefined || !(error instanceof FreezeBrokenError)) {
        throw error;
      }
    });
  }
  // To people a command that failed has said so itself.
  if (code === 0 || output.form === 'json') {
    output.result({ volume, mountpoint, code }, () => [`${volume} stood still all the time, and goes on.`]);
  }
  process.exitCode = code;
}

/** Lets it go on. */
export async function volumeThaw(args: TargetArguments): Promise<void> {
  const output = createOutput(args.json ? 'json' : 'text');
  await using daemon = await client(args);
  await daemon.thaw();
  const { volume, mountpoint } = daemon.served;
  output.result({ volume, mountpoint }, () => [`${volume} stood still all the time, and goes on.`]);
}
