import { NotMountedError } from '@verfs/errors';
import type {
  CopyOptions,
  ExportSource,
  GcProgress,
  GcStatus,
  Reclaimable,
  ScrubOptions,
  ScrubProgress,
  ScrubResult,
  ScrubStatus,
  Snapshots,
  Stats,
  TransferReport,
  Usage,
  Vault,
  VolumeInfo,
  VolumePolicy,
  Work,
} from '@verfs/sdk';
import { loadConfig, type TargetArguments, targetOf } from './context.ts';

/** What commands want of a volume, whoever has it open. */
export interface VolumeAccess {
  stats(): Promise<Stats>;
  info(): Promise<VolumeInfo>;
  usage(path?: string): Promise<Usage>;
  import(source: string, target: string, options: CopyOptions): Promise<TransferReport>;
  export(source: ExportSource, target: string, options: CopyOptions): Promise<TransferReport>;
  gc(): Work<GcProgress, GcProgress>;
  gcPlan(): Promise<Reclaimable>;
  gcStatus(): Promise<GcStatus>;
  scrub(options: ScrubOptions): Work<ScrubProgress, ScrubResult>;
  scrubStop(): Promise<void>;
  scrubStatus(): Promise<ScrubStatus>;
  readonly snapshots: Snapshots;
  readonly policy: VolumePolicy;
  readonly vault: Vault;
}

/**
 * Runs `use` on the volume that `args` mean: through its daemon, with its mountpoint, or else opened in this process
 * meanwhile.
 */
export async function withVolume<T>(
  args: TargetArguments,
  use: (volume: VolumeAccess, mountpoint?: string) => Promise<T>,
): Promise<T> {
  const target = await targetOf(args);
  const { findServed, refuseUnserved, VolumeClient } = await import('@verfs/sdk/control');
  const served = await findServed(target.path);
  if (served !== undefined) {
    await using client = await VolumeClient.to(served);
    return await use(client, served.mountpoint);
  }
  if (target.given === 'path') {
    await refuseUnserved(target.path);
    const advice = 'Name a path inside a mount, or a volume with `--volume DIR`.';
    throw new NotMountedError(`${target.path} is in no mounted VerFS volume`, { path: target.path, advice });
  }
  const { Volume } = await import('@verfs/sdk');
  const { openOptionsOf } = await import('@verfs/sdk/options');
  await using volume = await Volume.open(target.path, openOptionsOf(await loadConfig(args)));
  return await use(volume);
}
