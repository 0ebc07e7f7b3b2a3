import { basename, posix } from 'node:path';
import { SnapshotNotFoundError, shellQuoted, UsageError } from '@verfs/errors';
import type { Snapshot, SnapshotChange, Snapshots } from '@verfs/sdk';
import type { Argv } from 'yargs';
import type { CommonArguments, TargetArguments } from '../context.ts';
import { formatBytes, formatTable, formatTime, printable } from '../format.ts';
import { createOutput } from '../output.ts';
import { withProgress } from '../progress.ts';
import { withVolume } from '../volume-access.ts';
import { pathInVolume } from '../volume-paths.ts';

type Arguments = CommonArguments & Pick<TargetArguments, 'volume'>;

interface NameArguments extends Arguments {
  readonly name: string;
}

interface NamesArguments extends Arguments {
  readonly names: readonly string[];
}

const volumeOption = {
  type: 'string',
  requiresArg: true,
  describe: 'Directory of the volume, or a path in its mount',
} as const;

const target = (yargs: Argv<CommonArguments>) => yargs.option('volume', volumeOption);

const nameOf = (describe: string) => ({ type: 'string', demandOption: true, describe }) as const;

const namesOf = (describe: string) => ({ type: 'string', array: true, demandOption: true, describe }) as const;

/** Options of `verfs snapshot create`. */
export const createBuilder = (yargs: Argv<CommonArguments>) =>
  target(yargs)
    .positional('name', nameOf('Name of the snapshot'))
    .option('note', { type: 'string', default: '', requiresArg: true, describe: 'What it is for' })
    .example('$0 snapshot create monday --note "before the upgrade"', 'takes a snapshot of the default volume');

/** Options of `verfs snapshot list`. */
export const listBuilder = (yargs: Argv<CommonArguments>) =>
  target(yargs).example('$0 snapshot list --json', 'what there is, for programs');

/** Options of `verfs snapshot delete`. */
export const deleteBuilder = (yargs: Argv<CommonArguments>) =>
  target(yargs).positional('names', namesOf('Snapshots')).example('$0 snapshot delete monday tuesday', 'deletes two');

/** Options of `verfs snapshot diff`. */
export const diffBuilder = (yargs: Argv<CommonArguments>) =>
  target(yargs)
    .positional('from', nameOf('The earlier snapshot'))
    .positional('to', { type: 'string', describe: 'The later one; by default what is there now' })
    .example('$0 snapshot diff monday', 'what was added, removed, changed and renamed since')
    .example('$0 snapshot diff monday tuesday --json', 'one line of JSON for each change');

/** Options of `verfs snapshot rollback`. */
export const rollbackBuilder = (yargs: Argv<CommonArguments>) =>
  target(yargs)
    .positional('name', nameOf('The snapshot'))
    .example('$0 snapshot rollback monday', 'makes the volume what it was then; what was done since is lost');

/** Options of `verfs snapshot clone`. */
export const cloneBuilder = (yargs: Argv<CommonArguments>) =>
  target(yargs)
    .positional('name', nameOf('The snapshot'))
    .positional('directory', nameOf('The new directory, in the volume'))
    .example('$0 snapshot clone monday experiments/monday', 'a copy that can be written and shares all data');

/** Options of `verfs snapshot restore`. */
export const restoreBuilder = (yargs: Argv<CommonArguments>) =>
  target(yargs)
    .positional('name', nameOf('The snapshot'))
    .positional('paths', namesOf('Files and directories: in the mount, or from the root of the volume'))
    .option('to', { type: 'string', requiresArg: true, describe: 'Directory in the volume to put them into' })
    .example('$0 snapshot restore monday docs/report.txt', 'puts it back as it was')
    .example('$0 snapshot restore monday docs --to old', 'puts it at old/docs instead');

/** Options of `verfs snapshot hold` and `verfs snapshot release`. */
export const holdBuilder = (yargs: Argv<CommonArguments>) =>
  target(yargs)
    .positional('names', namesOf('Snapshots'))
    .option('tag', { type: 'string', default: 'manual', requiresArg: true, describe: 'Who holds it, or why' })
    .example('$0 snapshot hold monday', 'keeps it from being deleted, by a policy too')
    .example('$0 snapshot release monday', 'ends that');

const outputOf = (args: CommonArguments) => createOutput(args.json ? 'json' : 'text');

/** Takes a snapshot. */
export async function snapshotCreate(args: NameArguments & { readonly note: string }): Promise<void> {
  const snapshot = await withVolume(args, ({ snapshots }) => snapshots.create(args.name, { note: args.note }));
  outputOf(args).result(snapshot, () => [`Took the snapshot ${snapshot.name}.`]);
}

function listText(list: readonly Snapshot[]): string[] {
  if (list.length === 0) {
    return ['There is no snapshot. Take one: `verfs snapshot create NAME`.'];
  }
  const rows = list.map((one) => {
    const held = one.holds.length === 0 ? '' : `held by ${one.holds.join(', ')}`;
    const remarks = [held, one.note].filter((text) => text !== '').join('; ');
    return [one.name, formatTime(one.created), formatBytes(one.usedBytes), formatBytes(one.logicalBytes), remarks];
  });
  return formatTable(['Name', 'Taken', 'Used', 'Size', 'Note'], rows, ['Used', 'Size']);
}

/** Lists the snapshots. */
export async function snapshotList(args: Arguments): Promise<void> {
  const list = await withVolume(args, ({ snapshots }) => snapshots.list());
  outputOf(args).result({ snapshots: list }, () => listText(list));
}

/**
 * Checks that there are snapshots of all `names`, before anything is done to the first.
 *
 * @throws SnapshotNotFoundError
 */
async function checkNames(snapshots: Snapshots, names: readonly string[]): Promise<void> {
  const there = new Set((await snapshots.list()).map(({ name }) => name));
  const missing = names.filter((name) => !there.has(name));
  if (missing.length > 0) {
    throw new SnapshotNotFoundError(`There is no snapshot ${missing.map(shellQuoted).join(', ')}; nothing was done`);
  }
}

async function forEach(args: NamesArguments, act: (snapshots: Snapshots, name: string) => Promise<void>) {
  const names = [...new Set(args.names)];
  await withVolume(args, async ({ snapshots }) => {
    await checkNames(snapshots, names);
    for (const name of names) {
      await act(snapshots, name);
    }
  });
  return names;
}

/** Deletes snapshots. */
export async function snapshotDelete(args: NamesArguments): Promise<void> {
  const deleted = await forEach(args, (snapshots, name) => snapshots.delete(name));
  outputOf(args).result({ deleted }, () => deleted.map((name) => `Deleted the snapshot ${name}.`));
}

/** Keeps snapshots from being deleted. */
export async function snapshotHold(args: NamesArguments & { readonly tag: string }): Promise<void> {
  const held = await forEach(args, (snapshots, name) => snapshots.hold(name, args.tag));
  outputOf(args).result({ held, tag: args.tag }, () => held.map((name) => `The snapshot ${name} is held.`));
}

/** Ends a hold. */
export async function snapshotRelease(args: NamesArguments & { readonly tag: string }): Promise<void> {
  const released = await forEach(args, (snapshots, name) => snapshots.release(name, args.tag));
  outputOf(args).result({ released, tag: args.tag }, () => released.map((name) => `Released the snapshot ${name}.`));
}

const marks = { added: '+', removed: '-', changed: '~', renamed: '>' } as const;

function changeText({ kind, path, from, type, sizeBefore, sizeAfter }: SnapshotChange): string {
  const name = printable(path) + (type === 'directory' ? '/' : '');
  const sizes = [sizeBefore, sizeAfter].filter((size) => size !== undefined).map(formatBytes);
  const told = new Set(sizes).size === 0 ? '' : ` (${[...new Set(sizes)].join(' to ')})`;
  return `${marks[kind]} ${from === undefined ? '' : `${printable(from)} to `}${name}${told}`;
}

/** Shows what changed. */
export async function snapshotDiff(
  args: Arguments & { readonly from: string; readonly to?: string | undefined },
): Promise<void> {
  const output = outputOf(args);
  const counts = { added: 0, removed: 0, changed: 0, renamed: 0 };
  let grownBytes = 0;
  await withVolume(args, async ({ snapshots }) => {
    for await (const change of snapshots.diff(args.from, args.to)) {
      counts[change.kind] += 1;
      grownBytes += (change.sizeAfter ?? 0) - (change.sizeBefore ?? 0);
      if ((await output.item(change, () => changeText(change))) === 'enough') {
        break;
      }
    }
  });
  output.result({ summary: { ...counts, grownBytes } }, () => {
    const grown = `${grownBytes < 0 ? 'less' : 'more'} by ${formatBytes(Math.abs(grownBytes))}`;
    const { added, removed, changed, renamed } = counts;
    return [`${added} added, ${removed} removed, ${changed} changed, ${renamed} renamed; ${grown}`];
  });
}

/** Runs `act`, and tells people meanwhile how far it is. */
function withWork(what: string, args: CommonArguments, snapshots: Snapshots, act: () => Promise<void>): Promise<void> {
  return withProgress(what, args, act, async () => {
    const { inodes, ofInodes, bytes, records } = await snapshots.work();
    const files = `${inodes}${ofInodes > 0 ? ` of ${ofInodes}` : ''} files, ${formatBytes(bytes)}`;
    return records > 0 ? `${records} records` : inodes > 0 ? files : '';
  });
}

/** Makes the volume what it was. */
export async function snapshotRollback(args: NameArguments): Promise<void> {
  const vault = await withVolume(args, async (volume) => {
    await withWork('rolling back', args, volume.snapshots, () => volume.snapshots.rollback(args.name));
    return (await volume.vault.status()).state;
  });
  const kept = 'The vault is locked and stays as it is: unlock it, and roll back again, for the vault as well.';
  const text = `The volume is what it was in the snapshot ${args.name}.`;
  const isKept = vault === 'locked';
  const result = { name: args.name, ...(isKept ? { keptVault: true } : {}) };
  outputOf(args).result(result, () => (isKept ? [text, kept] : [text]));
}

/** Makes a copy that can be written. */
export async function snapshotClone(args: NameArguments & { readonly directory: string }): Promise<void> {
  const path = await withVolume(args, async ({ snapshots }, mountpoint) => {
    const inner = pathInVolume(args.directory, mountpoint, process.cwd());
    await withWork('cloning', args, snapshots, () => snapshots.clone(args.name, inner));
    return inner;
  });
  outputOf(args).result({ name: args.name, path }, () => [`${printable(path)} is a copy of ${args.name}.`]);
}

/** Puts files back as they were. */
export async function snapshotRestore(
  args: NameArguments & { readonly paths: readonly string[]; readonly to?: string | undefined },
): Promise<void> {
  const restored = await withVolume(args, async ({ snapshots }, mountpoint) => {
    const inner = (path: string) => pathInVolume(path, mountpoint, process.cwd());
    const to = args.to === undefined ? undefined : inner(args.to);
    const plan = [...new Set(args.paths.map(inner))].map((path) => {
      return { path, target: to === undefined ? path : posix.join(to, basename(path)) };
    });
    if (new Set(plan.map(({ target: place }) => place)).size < plan.length) {
      throw new UsageError('Two of the paths have the same name, and --to is one directory');
    }
    for (const { path, target: place } of plan) {
      await withWork(`restoring ${printable(path)}`, args, snapshots, () =>
        snapshots.restore(args.name, path, place === path ? {} : { to: place }),
      );
    }
    return plan;
  });
  outputOf(args).result({ name: args.name, restored }, () =>
    restored.map(({ path, target: place }) => {
      const where = place === path ? '' : ` to ${printable(place)}`;
      return `Restored ${printable(path) || 'everything'}${where} from ${args.name}.`;
    }),
  );
}
