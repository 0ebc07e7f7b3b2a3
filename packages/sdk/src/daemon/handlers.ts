import type { NativeVolume, SnapshotCalls, StreamCalls, TransferCalls } from '@verfs/native';
import type { ControlHandlers } from '../control/protocol.ts';
import type { EventWatch } from '../events.ts';
import { checkFreezeMs } from '../freeze.ts';
import type { LocalVault } from '../local-vault.ts';
import type { LocalPolicy } from '../policy.ts';
import { exportTree, importTree } from '../transfer.ts';
import type { LiveSettings } from './live-settings.ts';

type SnapshotMethod = Extract<keyof ControlHandlers, `snapshot${string}` | `policy${string}` | 'interruptedReceive'>;

const done = async (call: Promise<void>) => {
  await call;
  return null;
};

/**
 * What a daemon does for the methods about snapshots and policies.
 *
 * @param onChange Called when something may have changed when the next snapshot is due.
 */
export function snapshotHandlers(
  volume: SnapshotCalls & StreamCalls,
  policy: LocalPolicy,
  onChange: () => void,
): Pick<ControlHandlers, SnapshotMethod> {
  return {
    snapshots: (_, { signal }) => volume.snapshots(signal),
    snapshotCreate: ({ name, note }, { signal }) => volume.snapshotCreate(name, note, signal),
    snapshotDelete: ({ name }, { signal }) => done(volume.snapshotDelete(name, signal)),
    snapshotHold: ({ name, tag }, { signal }) => done(volume.snapshotHold(name, tag, signal)),
    snapshotRelease: ({ name, tag }, { signal }) => done(volume.snapshotRelease(name, tag, signal)),
    snapshotDiff: async ({ from, to }, { signal, progress }) => {
      for await (const batch of volume.snapshotDiff(from, to, signal)) {
        await progress(batch);
      }
      return null;
    },
    snapshotRollback: ({ name }, { signal }) => done(volume.snapshotRollback(name, signal)),
    snapshotClone: ({ name, path }, { signal }) => done(volume.snapshotClone(name, path, signal)),
    snapshotRestore: ({ name, path, target }, { signal }) => done(volume.snapshotRestore(name, path, target, signal)),
    snapshotWork: () => volume.snapshotWork(),
    snapshotSend: (request, { signal }) => volume.snapshotSend(request, signal),
    snapshotReceive: async (request, { signal }) => {
      const snapshot = await volume.snapshotReceive(request, signal);
      onChange();
      return snapshot;
    },
    interruptedReceive: (_, { signal }) => volume.interruptedReceive(signal),
    policy: (_, { signal }) => policy.get({ signal }),
    policySet: async ({ changes }, { signal }) => {
      const status = await policy.set(changes, { signal });
      onChange();
      return status;
    },
    policyRun: async ({ mode }, { signal }) => {
      const run = await policy.run({ mode, signal });
      onChange();
      return run;
    },
  };
}

/** What a daemon does for the methods about settings. */
export function settingsHandlers(settings: LiveSettings): Pick<ControlHandlers, 'configSet' | 'configReload'> {
  return {
    configSet: ({ key, value }) => settings.set(key, value),
    configReload: () => settings.reload(),
  };
}

type ScrubMethod = Extract<keyof ControlHandlers, `scrub${string}`>;

/** What a daemon does for the methods about scrubs. */
export function scrubHandlers(
  volume: Pick<NativeVolume, 'scrub' | 'scrubStop' | 'scrubStatus'>,
): Pick<ControlHandlers, ScrubMethod> {
  return {
    scrub: ({ rateBytes }, { signal }) => volume.scrub(rateBytes, signal),
    scrubStop: () => done(volume.scrubStop()),
    scrubStatus: () => volume.scrubStatus(),
  };
}

/** What a daemon does for the methods that copy to and from this machine. */
export function transferHandlers(volume: TransferCalls): Pick<ControlHandlers, 'import' | 'export'> {
  return {
    import: ({ source, target, ...options }, { signal, progress }) =>
      importTree(volume, [source, target], { ...options, signal, onProgress: progress }),
    export: ({ snapshot, path, target, ...options }, { signal, progress }) =>
      exportTree(volume, [{ snapshot, path }, target], { ...options, signal, onProgress: progress }),
  };
}

/**
 * What a daemon does for the methods that hold the volume still.
 *
 * @param deadlineMs How long a request may wait before it fails; 0 for ever.
 */
export function freezeHandlers(
  volume: Pick<NativeVolume, 'freeze' | 'thaw'>,
  deadlineMs: number,
): Pick<ControlHandlers, 'freeze' | 'thaw'> {
  return {
    freeze: async ({ forMs }, { signal }) => done(volume.freeze(checkFreezeMs(forMs, deadlineMs), signal)),
    thaw: () => done(volume.thaw()),
  };
}

/** Events that wait for a client; a slower one misses some. */
const waitingMax = 1024;

/** What a daemon does for those who want to know what happens to its volume. */
export function eventHandlers(watch: EventWatch): Pick<ControlHandlers, 'events'> {
  return {
    events: async (_, { signal, progress }) => {
      let waiting = 0;
      const stop = watch.listen((event) => {
        if (waiting < waitingMax) {
          waiting += 1;
          // Who hung up is told nothing.
          const told = progress(event).catch(() => undefined);
          void told.finally(() => {
            waiting -= 1;
          });
        }
      });
      try {
        await watch.look();
        await progress(null);
        await new Promise<void>((resolve) => {
          signal.addEventListener('abort', () => resolve(), { once: true });
          if (signal.aborted) {
            resolve();
          }
        });
        return null;
      } finally {
        stop();
      }
    },
  };
}

type VaultMethod = Extract<keyof ControlHandlers, `vault${string}`>;

/** What a daemon does for the methods about the vault. */
export function vaultHandlers(vault: LocalVault): Pick<ControlHandlers, VaultMethod> {
  return {
    vaultStatus: () => vault.vaultStatus(),
    vaultCreate: (options, { signal }) => done(vault.vaultCreate(options, signal)),
    vaultUnlock: ({ socket }, { signal }) => done(vault.vaultUnlock(socket, signal)),
    vaultCheck: ({ socket }, { signal }) => done(vault.vaultCheck(socket, signal)),
    vaultLock: ({ graceMs }, { signal }) => done(vault.vaultLock(graceMs, signal)),
    vaultDamaged: ({ socket }, { signal }) => done(vault.vaultDamaged(socket, signal)),
    vaultChange: ({ socket }, { signal }) => done(vault.vaultChange(socket, signal)),
    vaultRekey: ({ socket }, { signal }) => done(vault.vaultRekey(socket, signal)),
    vaultAutoLock: ({ afterMs }) => done(vault.vaultAutoLock(afterMs)),
  };
}
