import { configKeys } from '@verfs/config';
import { errorTable } from '@verfs/errors';
import { metrics } from '../metrics/definitions.ts';

/** Words of the log that no table has. */
const ofTheLog = `
  mounted unmounting mount volume process ms is after not was were the of a an and at in on to by for from it with who
  detached dead daemon command asked somebody unmounted failed closed data being made durable or has files open control
  connection refused user socket cannot be told service manager locked vault which nobody used lock itself takes no
  writes nearly full room disk low enough again snapshot snapshots policy took pruned deleted next scrub ended scrubbed
  checked configuration stays as read changed reload records before this one dropped left out more like these panicked
  collected garbage packs reclaimed moved left alone damaged missing record metadata engine thread early tried stands
  still goes seconds outcome removed copies interrupted sealing anew waits until unlocked wrong missed late closing tree
  chunk store start error errors io end done stopped verfs tally bytes running state idle busy overdue requests
`;

/** Every word that VerFS says itself, in lower case. */
const vocabulary: ReadonlySet<string> = new Set(
  [
    ofTheLog,
    ...Object.entries(errorTable).flatMap(([code, { summary, advice }]) => [code, summary, advice]),
    ...Object.values(configKeys).map(({ help }) => help),
    ...metrics.map(({ name, help }) => `${name} ${help}`),
  ]
    .join(' ')
    .toLowerCase()
    .match(/[a-z]+/g) ?? [],
);

/** What stands for what was left out. */
const gap = '…';

const isOurs = (word: string) => (word.toLowerCase().match(/[a-z]+/g) ?? []).every((part) => vocabulary.has(part));

/** A number with its unit, a word of ours, or a field of the log with a number. */
function isHarmless(token: string): boolean {
  const bare = token.replace(/^\(+|[).,:;!?]+$/g, '');
  return (
    /^-?\d{1,15}(\.\d+)?( ?(ms|us|s|%|[KMGT]i?B|B))?$/.test(bare) ||
    (/^[A-Za-z_]+$/.test(bare) && isOurs(bare)) ||
    (/^[a-z_]+=-?\d+(\.\d+)?$/.test(bare) && isOurs(bare))
  );
}

/**
 * `text` without anything that may name a file, a place, a person or a machine: of its words those stay that VerFS says
 * itself, and numbers. Whatever is in quotes goes.
 */
export function withoutNames(text: string): string {
  const open = text.replace(/"[^"]*"|'[^']*'|`[^`]*`|“[^”]*”/g, gap);
  const tokens = open.split(/\s+/).filter((token) => token !== '');
  const kept = tokens.map((token) => (isHarmless(token) ? token : gap));
  return kept.filter((token, at) => token !== gap || kept[at - 1] !== gap).join(' ');
}
