import { errorTable, UsageError } from '@verfs/errors';
import type { KeepReason, Policy, PolicyChanges, PolicyKey, PolicyRun, PolicyStatus } from '@verfs/sdk';
import type { Argv } from 'yargs';
import type { CommonArguments, TargetArguments } from '../context.ts';
import { formatRows, formatTable, formatTime } from '../format.ts';
import { createOutput } from '../output.ts';
import { withVolume } from '../volume-access.ts';

type Arguments = CommonArguments & Pick<TargetArguments, 'volume'>;

const target = (yargs: Argv<CommonArguments>) =>
  yargs.option('volume', {
    type: 'string',
    requiresArg: true,
    describe: 'Directory of the volume, or a path in its mount',
  });

/** `keep.min_age` is `--keep-min-age`. */
const optionOf = (key: string) => key.replaceAll(/[._]/g, '-');

/** Options of `verfs policy show`. */
export const showBuilder = (yargs: Argv<CommonArguments>) =>
  target(yargs).example('$0 policy show', 'when snapshots are taken, and which are kept');

/** Options of `verfs policy set`: one for each key. */
export const setBuilder = async (yargs: Argv<CommonArguments>) => {
  const { policyKeyNames, policyKeys } = await import('@verfs/snapshots');
  let builder = target(yargs);
  for (const key of policyKeyNames) {
    const { help, type } = policyKeys[key];
    const describe = `${help.replace(/\.$/, '')} (${type})`.replaceAll('`', '');
    builder = builder.option(optionOf(key), { type: 'string', requiresArg: true, describe });
  }
  return builder
    .example('$0 policy set --schedule hourly --keep-hourly 24 --keep-daily 7', 'for the default volume')
    .example('$0 policy set --schedule off', 'takes none by itself any more');
};

/** Options of `verfs policy run`. */
export const runBuilder = (yargs: Argv<CommonArguments>) =>
  target(yargs)
    .option('dry-run', { type: 'boolean', default: false, describe: 'Change nothing, and tell what would be done' })
    .example('$0 policy run --dry-run', 'what would be taken and pruned now, and which rules keep the others');

const nextText = (next: number | null) => (next === null ? 'none by itself' : formatTime(next));

function keepText(policy: Policy): string {
  const rules = (['last', 'hourly', 'daily', 'weekly', 'monthly', 'yearly'] as const)
    .map((rule) => ({ rule, count: policy[`keep.${rule}`] }))
    .filter(({ count }) => count > 0);
  return rules.length === 0 ? 'all' : rules.map(({ rule, count }) => `${count} ${rule}`).join(', ');
}

async function statusText({ policy, next }: PolicyStatus): Promise<string[]> {
  const { durationUnits, formatQuantity } = await import('@verfs/config/units');
  const minAgeMs = policy['keep.min_age'];
  return formatRows([
    ['Schedule', policy.schedule],
    ['Next', nextText(next)],
    ...(policy.note === '' ? [] : [['Note', policy.note] as const]),
    ['Keep', keepText(policy)],
    ['Scrub', policy.scrub],
    ...(minAgeMs === 0 ? [] : [['At least for', formatQuantity(minAgeMs * 1000, durationUnits)] as const]),
  ]);
}

/** Shows the policy. */
export async function policyShow(args: Arguments): Promise<void> {
  const status = await withVolume(args, ({ policy }) => policy.get());
  const text = await statusText(status);
  createOutput(args.json ? 'json' : 'text').result(status, () => text);
}

/** What `given` is for `key`, as TOML has it: a number where the default is one. */
function tomlValue(given: string, defaultText: string): string | number {
  return typeof JSON.parse(defaultText) === 'number' && /^-?\d+(\.\d+)?$/.test(given) ? Number(given) : given;
}

/** Changes the policy. */
export async function policySet(args: Arguments & Readonly<Record<string, unknown>>): Promise<void> {
  const { policyKeyNames, policyKeys } = await import('@verfs/snapshots');
  const changes: Partial<Record<PolicyKey, string | number>> = {};
  for (const key of policyKeyNames) {
    const given = args[optionOf(key)];
    if (typeof given === 'string') {
      changes[key] = tomlValue(given, policyKeys[key].defaultText);
    }
  }
  if (Object.keys(changes).length === 0) {
    throw new UsageError('Nothing is set', { advice: 'See `verfs policy set --help`.' });
  }
  const status = await withVolume(args, ({ policy }) => policy.set(changes satisfies PolicyChanges));
  const text = await statusText(status);
  createOutput(args.json ? 'json' : 'text').result(status, () => text);
}

const reasonTexts: Readonly<Record<KeepReason, string>> = {
  last: 'last',
  hourly: 'hourly',
  daily: 'daily',
  weekly: 'weekly',
  monthly: 'monthly',
  yearly: 'yearly',
  min_age: 'too young',
  held: 'held',
  future: 'from the future',
};

function runText({ mode, taken, pruned, kept, failures, next }: PolicyRun): string[] {
  const isDone = mode === 'done';
  const takenText = taken === null ? 'No snapshot is due.' : `${isDone ? 'Took' : 'Would take'} the snapshot ${taken}.`;
  const rows = kept.map(({ name, created, reasons }) => {
    return [name, formatTime(created), reasons.map((reason) => reasonTexts[reason]).join(', ')];
  });
  return [
    takenText,
    ...pruned.map((name) => `${isDone ? 'Pruned' : 'Would prune'} ${name}.`),
    ...failures.map(({ name, error }) => `Failed for ${name}: ${error.message}`),
    `Next: ${nextText(next)}`,
    ...(isDone || rows.length === 0 ? [] : ['', ...formatTable(['Would keep', 'Taken', 'Because of'], rows)]),
  ];
}

/** Takes a snapshot when one is due, and prunes. */
export async function policyRun(args: Arguments & { readonly dryRun: boolean }): Promise<void> {
  const run = await withVolume(args, ({ policy }) => policy.run({ mode: args.dryRun ? 'dry-run' : 'done' }));
  createOutput(args.json ? 'json' : 'text').result(run, () => runText(run));
  const [failure] = run.failures;
  if (failure !== undefined) {
    process.exitCode = errorTable[failure.error.code].exitCode;
  }
}
