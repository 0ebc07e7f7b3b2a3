import { basename, dirname, join, resolve } from 'node:path';
import { CancelledError, errorTable, UsageError } from '@verfs/errors';
import type { CopyOptions, TransferProgress, TransferReport } from '@verfs/sdk';
import type { Argv } from 'yargs';
import { type CommonArguments, placeOf, type TargetArguments } from '../context.ts';
import { formatBytes, formatCount, formatEntries, printable } from '../format.ts';
import { interruptible } from '../interrupt.ts';
import { createOutput } from '../output.ts';
import { startProgress, transferText } from '../progress.ts';
import { withVolume } from '../volume-access.ts';
import { pathInVolume } from '../volume-paths.ts';

type Arguments = CommonArguments &
  Pick<TargetArguments, 'volume'> & {
    readonly verify: boolean;
    readonly checksum?: boolean | undefined;
    readonly 'leave-out'?: boolean | undefined;
  };

interface ImportArguments extends Arguments {
  readonly source: string;
  readonly target?: string | undefined;
}

interface ExportArguments extends Arguments {
  readonly source: string;
  readonly target: string;
}

const options = (yargs: Argv<CommonArguments>) =>
  yargs
    .option('volume', {
      type: 'string',
      requiresArg: true,
      describe: 'Directory of the volume, or a path in its mount',
    })
    .option('verify', { type: 'boolean', default: true, describe: 'Read files back from where they were stored' })
    .option('checksum', {
      type: 'boolean',
      describe: 'Compare what an earlier run copied by content, not by size and time alone',
    })
    .option('leave-out', { type: 'boolean', describe: 'Leave out what cannot be copied, and name it' });

/** Options of `verfs import`. */
export const importBuilder = (yargs: Argv<CommonArguments>) =>
  options(yargs)
    .positional('source', { type: 'string', demandOption: true, describe: 'A directory, or a file, of this machine' })
    .positional('target', {
      type: 'string',
      describe: 'A new path in the mount, or from the root of the volume; by default the name of SOURCE',
    })
    .example('$0 import ~/projects', 'copies it to /projects of the default volume, mounted or not')
    .example('$0 import ~/projects old/projects --volume /srv/a', 'to another place in another volume')
    .example('$0 import ~/projects', 'goes on after Ctrl+C, or an error');

/** Options of `verfs export`. */
export const exportBuilder = (yargs: Argv<CommonArguments>) =>
  options(yargs)
    .positional('source', {
      type: 'string',
      demandOption: true,
      describe: 'SNAPSHOT:PATH, or a path in the mount, or from the root of the volume',
    })
    .positional('target', { type: 'string', demandOption: true, describe: 'A new path on this machine' })
    .example('$0 export monday:projects /mnt/usb/projects', 'copies what the snapshot monday has')
    .example('$0 export ./a:b /tmp/ab', 'a name with a colon is no snapshot behind a slash');

/** `monday` and `docs` of `monday:docs`. A name of a snapshot has no slash. */
export function exportSource(given: string): { readonly snapshot: string | undefined; readonly path: string } {
  const [, snapshot, path] = /^([^/:]+):(.*)$/s.exec(given) ?? [];
  return snapshot === undefined || path === undefined ? { snapshot: undefined, path: given } : { snapshot, path };
}

function progressText({ entries, ofEntries, bytes, ofBytes, counted }: TransferProgress, seconds: number): string {
  const files = counted ? `${entries} of ${ofEntries}` : `${entries}`;
  return `${files} files, ${transferText(bytes, seconds, counted ? ofBytes : undefined)}`;
}

/** The volume in whose mount `path` lies, if no other is named. */
async function volumeOf<A extends Arguments>(args: A, path: string | undefined): Promise<A> {
  if (args.volume !== undefined || path === undefined) {
    return args;
  }
  const { findServed } = await import('@verfs/sdk/control');
  const served = await findServed(resolve(path));
  return served === undefined ? args : { ...args, volume: served.volume };
}

/** What `given` means as a path in the volume, whatever links lead to the mount. */
async function inVolume(given: string, mountpoint: string | undefined): Promise<string> {
  const { resolveLinks } = await import('@verfs/sdk/mounts');
  // The last name is meant itself, whatever it leads to.
  const path = mountpoint === undefined ? given : join(await resolveLinks(dirname(resolve(given))), basename(given));
  const isThere = mountpoint !== undefined && `${path}/`.startsWith(`${mountpoint}/`);
  return pathInVolume(isThere ? path : given, mountpoint, process.cwd());
}

/** Copies, tells how far it is, and stops when somebody interrupts it. */
async function copied(
  what: string,
  args: Arguments,
  copy: (options: CopyOptions) => Promise<TransferReport>,
): Promise<TransferReport> {
  const progress = startProgress(what, args);
  const began = performance.now();
  try {
    return await interruptible((signal) =>
      copy({
        signal,
        verify: args.verify,
        compare: args.checksum,
        leaveOut: args['leave-out'],
        onProgress: (now) => progress.set(progressText(now, (performance.now() - began) / 1000)),
      }),
    );
  } catch (thrown) {
    if (thrown instanceof CancelledError) {
      throw new CancelledError('It was interrupted', { advice: 'The same command goes on.', cause: thrown });
    }
    throw thrown;
  } finally {
    progress.end();
  }
}

function tell(args: Arguments, report: TransferReport, place: { readonly source: string; readonly target: string }) {
  const { bytes, alreadyThere, verified, leftOut, failures, toldFailures } = report;
  const there = alreadyThere === 0 ? '' : `; ${alreadyThere} of them an earlier run had copied`;
  createOutput(args.json ? 'json' : 'text').result({ ...place, ...report }, () => [
    `Copied ${formatEntries(report)}, ${formatBytes(bytes)}, to ${printable(place.target)}${there}.`,
    `${formatCount(verified, 'file')} read back and compared with what was read.`,
    ...leftOut.map((path) => `Left out ${printable(path)}: it is the volume itself.`),
    ...(failures === 0
      ? []
      : [`${failures} could not be copied:`, ...toldFailures.map((one) => `  ${printable(one)}`)]),
  ]);
  if (failures > 0) {
    process.exitCode = errorTable.VERFS_E_COPY_INCOMPLETE.exitCode;
  }
}

/** Copies a directory of this machine into a volume. */
export async function importTree(args: ImportArguments): Promise<void> {
  const source = placeOf(args.source);
  const name = args.target ?? basename(source);
  if (name === '') {
    throw new UsageError(`${source} has no name: say where it is to go`);
  }
  const place = await withVolume(await volumeOf(args, args.target), async (volume, mountpoint) => {
    const target = args.target === undefined ? name : await inVolume(args.target, mountpoint);
    const report = await copied('importing', args, (how) => volume.import(source, target, how));
    return { source, target: `/${target}`, report };
  });
  tell(args, place.report, place);
}

/** Copies out of a volume, or of one of its snapshots. */
export async function exportTree(args: ExportArguments): Promise<void> {
  const { snapshot, path: given } = exportSource(args.source);
  const target = placeOf(args.target);
  const report = await withVolume(
    snapshot === undefined ? await volumeOf(args, given) : args,
    async (volume, mountpoint) => {
      const path = snapshot === undefined ? await inVolume(given, mountpoint) : given;
      return await copied('exporting', args, (how) => volume.export({ snapshot, path }, target, how));
    },
  );
  tell(args, report, { source: args.source, target });
}
