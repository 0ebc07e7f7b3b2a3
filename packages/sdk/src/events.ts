/**
 * What a volume tells of itself. Whoever did it, this process, another one, a mount or the engine by itself, is found by
 * looking: after each call that may have something to tell, and from time to time. Nobody looks while nobody listens.
 */
import type { Damage, GcStatus, ScrubStatus, Snapshot, Stats, VaultStatus } from '@verfs/native';
import { type SpaceState, spaceState } from './space-state.ts';

/** How often somebody looks, in milliseconds. */
const lookEveryMs = 500;

/** Something that happened to a volume. */
export type VolumeEvent =
  /** It was mounted there. */
  | { readonly type: 'mounted'; readonly mountpoint: string }
  /** Its mount is gone, or going, whoever unmounted it. */
  | { readonly type: 'unmounted' }
  /** It was closed, or the connection to it ended. The last event. */
  | { readonly type: 'closed' }
  | { readonly type: 'snapshotCreated'; readonly snapshot: Snapshot }
  | { readonly type: 'snapshotDeleted'; readonly snapshot: Snapshot }
  /** A collection of garbage began, whoever asked for it. One that is over within half a second only ends. */
  | { readonly type: 'gcBegun' }
  /** One ended: `failure` says why it could not complete, and is empty otherwise. */
  | { readonly type: 'gcDone'; readonly reclaimedBytes: number; readonly failure: string }
  | { readonly type: 'scrubBegun' }
  /** One ended, or was stopped: then `interrupted` is true, and it can go on. */
  | { readonly type: 'scrubDone'; readonly interrupted: boolean; readonly failure: string }
  /** A file was found damaged, by a scrub or by who read it. Those in the vault are never told. */
  | { readonly type: 'damageFound'; readonly damage: Damage }
  /** The disk under the volume got low or full, or has room again. */
  | {
      readonly type: 'spaceChanged';
      readonly state: SpaceState;
      readonly freeBytes: number;
      readonly totalBytes: number;
    }
  | { readonly type: 'vaultUnlocked' }
  | { readonly type: 'vaultLocked' }
  /** The store failed: the volume takes no more changes until it is opened again. */
  | { readonly type: 'changesRefused'; readonly reason: string };

/** The events, each by its type, for `on`; `event` has all of them. */
export type VolumeEvents = {
  readonly [T in VolumeEvent['type']]: [event: Extract<VolumeEvent, { readonly type: T }>];
} & { readonly event: [event: VolumeEvent] };

/** What is looked at. */
export interface Watched {
  stats(): Promise<Pick<Stats, 'damaged' | 'freeBytes' | 'totalBytes' | 'tasks'>>;
  snapshots(): Promise<readonly Snapshot[]>;
  gcStatus(): Promise<Pick<GcStatus, 'active' | 'collections' | 'reclaimedBytes' | 'failure'>>;
  scrubStatus(): Promise<Pick<ScrubStatus, 'active' | 'interrupted' | 'failure'>>;
  vaultStatus(): Promise<Pick<VaultStatus, 'state'>>;
}

/** What one look sees. */
interface Sight {
  readonly snapshots: ReadonlyMap<number, Snapshot>;
  readonly gc: Awaited<ReturnType<Watched['gcStatus']>>;
  readonly scrub: Awaited<ReturnType<Watched['scrubStatus']>>;
  readonly damaged: ReadonlyMap<string, Damage>;
  readonly space: SpaceState;
  readonly room: { readonly freeBytes: number; readonly totalBytes: number };
  readonly vault: VaultStatus['state'];
  /** Why changes are refused, if they are. */
  readonly refusal: string | undefined;
}

async function look(volume: Watched): Promise<Sight> {
  const [stats, snapshots, gc, scrub, vault] = await Promise.all([
    volume.stats(),
    volume.snapshots(),
    volume.gcStatus(),
    volume.scrubStatus(),
    volume.vaultStatus(),
  ]);
  const { freeBytes, totalBytes, damaged, tasks } = stats;
  return {
    snapshots: new Map(snapshots.map((snapshot) => [snapshot.id, snapshot])),
    gc,
    scrub,
    damaged: new Map(damaged.map((damage) => [`${damage.path}\0${damage.pack}\0${damage.detail}`, damage])),
    space: spaceState({ freeBytes, totalBytes }),
    room: { freeBytes, totalBytes },
    vault: vault.state,
    refusal: tasks.find(({ name, state }) => name === 'commit' && state === 'failed')?.detail,
  };
}

/** What is in `later` and was not in `earlier`. */
const added = <T>(later: ReadonlyMap<unknown, T>, earlier: ReadonlyMap<unknown, T>): T[] =>
  [...later].filter(([key]) => !earlier.has(key)).map(([, value]) => value);

/** What happened between two looks. */
function* eventsBetween(before: Sight, now: Sight): Generator<VolumeEvent, void> {
  for (const snapshot of added(before.snapshots, now.snapshots)) {
    yield { type: 'snapshotDeleted', snapshot };
  }
  for (const snapshot of added(now.snapshots, before.snapshots)) {
    yield { type: 'snapshotCreated', snapshot };
  }
  if (now.gc.collections > before.gc.collections) {
    const reclaimedBytes = now.gc.reclaimedBytes - before.gc.reclaimedBytes;
    yield { type: 'gcDone', reclaimedBytes, failure: now.gc.failure };
  }
  if (now.gc.active && (!before.gc.active || now.gc.collections > before.gc.collections)) {
    yield { type: 'gcBegun' };
  }
  if (now.scrub.active !== before.scrub.active) {
    const { interrupted, failure } = now.scrub;
    yield now.scrub.active ? { type: 'scrubBegun' } : { type: 'scrubDone', interrupted, failure };
  }
  for (const damage of added(now.damaged, before.damaged)) {
    yield { type: 'damageFound', damage };
  }
  if (now.space !== before.space) {
    yield { type: 'spaceChanged', state: now.space, ...now.room };
  }
  if (now.vault !== before.vault && (now.vault === 'unlocked' || before.vault === 'unlocked')) {
    yield { type: now.vault === 'unlocked' ? 'vaultUnlocked' : 'vaultLocked' };
  }
  if (now.refusal !== undefined && before.refusal === undefined) {
    yield { type: 'changesRefused', reason: now.refusal };
  }
}

/** Looks at a volume for those who listen. What was so when the first one came is no event. */
export class EventWatch {
  readonly #volume: Watched;
  readonly #listeners = new Set<(event: VolumeEvent) => void>();
  #timer: NodeJS.Timeout | undefined;
  /** Looks under way. */
  #looks = 0;
  /** They come one after the other. */
  #turn: Promise<void> = Promise.resolve();
  #seen: Sight | undefined;

  constructor(volume: Watched) {
    this.#volume = volume;
  }

  /** Tells `listener` of events from now on. Returns what ends that. */
  listen(listener: (event: VolumeEvent) => void): () => void {
    this.#listeners.add(listener);
    if (this.#timer === undefined) {
      // Listening keeps no process alive.
      this.#timer = setInterval(() => this.#looks === 0 && void this.look(), lookEveryMs).unref();
      void this.look();
    }
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size === 0) {
        this.stop();
      }
    };
  }

  /** Tells of something that no look finds. */
  tell(event: VolumeEvent): void {
    for (const listener of [...this.#listeners]) {
      try {
        listener(event);
      } catch (error) {
        // It is for nobody here to catch.
        process.nextTick(() => {
          throw error;
        });
      }
    }
  }

  /** Resolves once what happened before is told. It never rejects: what can't be seen now is seen later. */
  look(): Promise<void> {
    if (this.#timer !== undefined) {
      this.#looks += 1;
      this.#turn = this.#turn
        .then(() => this.#look())
        .catch(() => undefined)
        .finally(() => {
          this.#looks -= 1;
        });
    }
    return this.#turn;
  }

  async #look(): Promise<void> {
    const now = await look(this.#volume);
    const before = this.#seen;
    if (this.#timer === undefined) {
      return;
    }
    this.#seen = now;
    if (before !== undefined) {
      for (const event of eventsBetween(before, now)) {
        this.tell(event);
      }
    }
  }

  /** Looks no more. */
  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#seen = undefined;
  }
}

/** Calls after which there may be something to tell. */
const telling: ReadonlySet<string | symbol> = new Set([
  'gc',
  'scrub',
  'snapshotCreate',
  'snapshotDelete',
  'snapshotReceive',
  'vaultLock',
  'vaultUnlock',
]);

/** `calls`, of which those that may have something to tell return when it is told. */
export function announcing<T extends object>(calls: T, watch: EventWatch): T {
  return new Proxy(calls, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== 'function') {
        return value;
      }
      if (!telling.has(name)) {
        return value.bind(target);
      }
      return async (...args: unknown[]) => {
        // What was so before is seen before.
        await watch.look();
        try {
          return await value.apply(target, args);
        } finally {
          await watch.look();
        }
      };
    },
  });
}
