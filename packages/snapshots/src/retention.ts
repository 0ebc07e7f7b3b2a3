import type { Snapshot } from '@verfs/native';
import { calendar, type Span, spans } from './calendar.ts';
import type { Policy } from './keys.ts';
import { isAutomatic } from './names.ts';

/** Why a snapshot is kept: a rule of the policy, or that pruning may not touch it. */
export type KeepReason = 'last' | Span | 'min_age' | 'held' | 'future';

/** What retention needs to know of a snapshot. */
export type Prunable = Pick<Snapshot, 'name' | 'created' | 'holds'>;

/** A snapshot that stays. */
export interface Kept {
  readonly name: string;
  readonly created: number;
  readonly reasons: readonly KeepReason[];
}

/** What a policy makes of the snapshots of a volume. The newest come first. */
export interface Retention {
  readonly kept: readonly Kept[];
  readonly pruned: readonly string[];
}

/** One moment, and what a run needs to know of it. */
export interface Moment {
  /** Milliseconds since 1970. */
  readonly now: number;
  /** The time zone whose days and hours count. */
  readonly zone: string;
  /** How old a snapshot is at least, in milliseconds. */
  ageOf(snapshot: Prunable): number;
}

interface Rule {
  readonly reason: 'last' | Span;
  readonly count: number;
}

const rulesOf = (policy: Policy): Rule[] =>
  (['last', ...spans] as const)
    .map((reason) => ({ reason, count: policy[`keep.${reason}`] }))
    .filter(({ count }) => count > 0);

/**
 * Decides which snapshots stay, as `restic forget` does. Each rule goes from the newest to the oldest and keeps the
 * first one of each span (hour, day, …) in which there is any, until it has as many as it may; when there are fewer,
 * it keeps the oldest of all as well. A snapshot stays when at least one rule keeps it. Without any rule all stay.
 *
 * Only snapshots that a policy made are looked at. Of those, none is pruned that is held or younger than `min_age`.
 * One from the future was taken while the clock was wrong, or it is wrong now: it stays, and takes no place of others.
 */
export function planRetention(policy: Policy, snapshots: readonly Prunable[], moment: Moment): Retention {
  const rules = rulesOf(policy);
  const ours = snapshots.filter(({ name }) => isAutomatic(name)).sort((a, b) => b.created - a.created);
  const isFuture = ({ created }: Prunable) => created > moment.now;
  const past = ours.filter((snapshot) => !isFuture(snapshot));
  const spanNames = calendar(moment.zone);
  const names = past.map(({ created }) => spanNames(created));

  const reasons = new Map<Prunable, KeepReason[]>(ours.map((snapshot) => [snapshot, []]));
  for (const { reason, count } of rules) {
    let [left, latest] = [count, ''];
    past.forEach((snapshot, index) => {
      const name = reason === 'last' ? String(index) : (names[index]?.[reason] ?? '');
      if (left > 0 && (name !== latest || index === past.length - 1)) {
        reasons.get(snapshot)?.push(reason);
        [left, latest] = [left - 1, name];
      }
    });
  }
  const isPruned = (snapshot: Prunable) => rules.length > 0 && reasons.get(snapshot)?.length === 0;
  for (const snapshot of ours) {
    const isYoung = policy['keep.min_age'] > 0 && moment.ageOf(snapshot) < policy['keep.min_age'];
    reasons
      .get(snapshot)
      ?.push(
        ...(isFuture(snapshot) ? (['future'] as const) : isYoung ? (['min_age'] as const) : []),
        ...(snapshot.holds.length > 0 ? (['held'] as const) : []),
      );
  }
  return {
    kept: ours
      .filter((snapshot) => !isPruned(snapshot))
      .map((snapshot) => ({
        name: snapshot.name,
        created: snapshot.created,
        reasons: reasons.get(snapshot) ?? [],
      })),
    pruned: ours.filter(isPruned).map(({ name }) => name),
  };
}
