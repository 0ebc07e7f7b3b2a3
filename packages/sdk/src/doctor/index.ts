/**
 * What is wrong with a machine or a volume, in words, and what to do about it.
 * Never here: how it is printed. Each check is one small function that gives a diagnosis; `examine` asks them all.
 */
import { NativeVolume } from '@verfs/native';
import { findServed, VolumeClient } from '../control/client.ts';
import type { Diagnosis } from './check.ts';
import * as machine from './machine.ts';
import * as volume from './volume.ts';

export { type Bundle, type BundleRequest, supportBundle } from './bundle.ts';
export { type Diagnosis, diagnosis, type Verdict } from './check.ts';
export { withoutNames } from './words.ts';

/** Looks at this machine. */
export const examineMachine = async (): Promise<Diagnosis[]> => [
  await machine.fuse(),
  machine.kernel(machine.thisMachine),
  machine.ring(machine.thisMachine),
  machine.openFiles(machine.thisMachine),
  machine.clock(machine.thisMachine),
  await machine.staleMounts(),
];

/** Looks at the volume at `path`, or in whose mount `path` lies. */
export async function examineVolume(path: string): Promise<Diagnosis[]> {
  const served = await findServed(path);
  const directory = served?.volume ?? path;
  const found = await volume.superblock(directory, (at) => NativeVolume.inspect(at));
  if (found.verdict !== 'ok') {
    return [found];
  }
  const about = [found, await volume.writable(directory), await volume.space(directory)];
  if (served === undefined) {
    return about;
  }
  try {
    await using client = await VolumeClient.to(served);
    return [...about, ...volume.served(await client.status())];
  } catch (thrown) {
    return [...about, volume.unanswered('daemon', thrown)];
  }
}
