import type { Argv } from 'yargs';
import { type CommonArguments, type TargetArguments, targetOf } from '../context.ts';
import { createOutput } from '../output.ts';
import { withProgress } from '../progress.ts';

/** Options of `verfs sync`. */
export const syncBuilder = (yargs: Argv<CommonArguments>) =>
  yargs
    .positional('path', { type: 'string', describe: 'The mountpoint, or a path in the mount' })
    .option('volume', { type: 'string', requiresArg: true, describe: 'Directory of the volume' })
    .example('$0 sync ~/verfs', 'waits until everything written is durable; sync(1) does not reach it');

/** Makes everything durable that was done in a mount before. */
export async function sync(args: TargetArguments): Promise<void> {
  const output = createOutput(args.json ? 'json' : 'text');
  const { VolumeClient } = await import('@verfs/sdk/control');
  await using client = await VolumeClient.connect((await targetOf(args)).path);
  await withProgress('making it durable', args, () => client.sync());
  const { volume, mountpoint } = client.served;
  output.result({ volume, mountpoint }, () => [`Everything in ${mountpoint} is durable.`]);
}
