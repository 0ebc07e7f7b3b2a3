import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { AlreadyMountedError, CancelledError, toVerfsError, VolumeLockedError } from '@verfs/errors';
import { type Log, type LogStream, openLog } from '@verfs/log';
import { NativeVolume, setLogSink, type VolumeInfo } from '@verfs/native';
import type { ControlHandlers, DaemonStatus } from '../control/protocol.ts';
import { serveControl } from '../control/server.ts';
import { announcing, EventWatch } from '../events.ts';
import { LocalVault } from '../local-vault.ts';
import { exposition, type MetricsServer, serveMetrics } from '../metrics/index.ts';
import { currentMounts, detachStale, fileSystemType, isBesideTree, type Mount, resolveLinks } from '../mounts.ts';
import { LocalPolicy } from '../policy.ts';
import { checkMountpoint } from '../preflight.ts';
import { forgetDead, prepareRuntimeDirectory, register, registered, socketPath, unregister } from '../registry.ts';
import { spaceState } from '../space-state.ts';
import { version } from '../version.ts';
import { type Found, findOrCreate } from './find-or-create.ts';
import {
  eventHandlers,
  freezeHandlers,
  scrubHandlers,
  settingsHandlers,
  snapshotHandlers,
  transferHandlers,
  vaultHandlers,
} from './handlers.ts';
import { LiveSettings } from './live-settings.ts';
import type { DaemonRequest } from './request.ts';
import { PolicyScheduler } from './scheduler.ts';
import { ScrubTimer } from './scrub-timer.ts';
import type { HangUp } from './signals.ts';
import { SpaceWatch } from './space-watch.ts';
import { type ServiceManager, serviceManager } from './supervision.ts';

/** A mount that answers. */
export interface Ready {
  readonly status: DaemonStatus;
  /** Whether the volume was there, or made for this mount. */
  readonly volume: Found['how'];
}

/** How the process that hosts a volume is told of things, and tells them. */
export interface HostSurroundings {
  /** Whether the log goes to standard error as well. */
  readonly stderr: 'silent' | 'text';
  /** Ends the mount when it fires; its reason is logged. */
  readonly stop: AbortSignal;
  /** Whether the service manager that started this process is told how it goes: not by a detached daemon. */
  readonly notify?: 'service manager' | undefined;
  /** Whether SIGHUP has the configuration read again. */
  readonly hangUp: HangUp;
  /** Called with the log once it is open: from then on what went wrong can be told there. */
  onLog?(log: Log): void;
  /** Called once the kernel answers at the mountpoint. */
  onReady(ready: Ready): void;
}

/** Detaches what earlier daemons of this volume left mounted. We hold the volume's lock: they are dead. */
async function detachLeftovers(volume: string, log: Log): Promise<void> {
  const ofVolume = (mount: Mount) => mount.source === volume;
  const detach = async (mounts: readonly Mount[]) => {
    for (const { mountpoint } of mounts) {
      await detachStale(mountpoint);
      log.warn(`detached the mount of a dead daemon at ${mountpoint}`);
    }
  };
  await detach(currentMounts().filter((mount) => mount.type === fileSystemType && ofVolume(mount)));
  // What was mounted in the tree went with it; an ordinary user's are in the runtime directory.
  await detach(currentMounts().filter((mount) => isBesideTree(mount) && ofVolume(mount)));
}

/** How often the mount table is looked at while an unmount waits for those who have files open, in milliseconds. */
const lingerPollMs = 250;

/** Within this time the kernel ends the connection of a mount that left the tree of names unused, in milliseconds. */
const connectionEndsWithinMs = 2000;

/**
 * Resolves when the mount has left the tree of names, which it does after the barrier, and says whether it is still
 * being served: somebody has files open in it then.
 */
async function lingers(volume: string, mountpoint: string, connectionEnds: Promise<void>): Promise<boolean> {
  const isOurs = (mount: Mount) => mount.mountpoint === mountpoint && mount.source === volume;
  do {
    await sleep(lingerPollMs, undefined, { ref: false });
  } while (currentMounts().some(isOurs));
  const ended = connectionEnds.then(() => false);
  return await Promise.race([ended, sleep(connectionEndsWithinMs, true, { ref: false })]);
}

/**
 * Checks after a mount that no other daemon was a little quicker at the same place.
 *
 * @throws AlreadyMountedError
 */
function checkAlone(volume: string, mountpoint: string): void {
  const first = currentMounts().find((mount) => mount.mountpoint === mountpoint && mount.type === fileSystemType);
  if (first !== undefined && first.source !== volume) {
    throw new AlreadyMountedError(`The volume ${first.source} is mounted at ${mountpoint} already`, {
      path: mountpoint,
    });
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) {
      resolve();
    }
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

function throwIfStopped(signal: AbortSignal): void {
  if (signal.aborted) {
    throw new CancelledError(`The mount was interrupted: ${signal.reason}`);
  }
}

/** Serves one open volume until it is unmounted, by whatever. */
class Host {
  readonly #request: DaemonRequest;
  readonly #info: VolumeInfo;
  readonly #volume: NativeVolume;
  readonly #watch: EventWatch;
  readonly #log: Log;
  readonly #policy: LocalPolicy;
  readonly #vault: LocalVault;
  /** None for a volume that may not be changed. */
  readonly #scheduler: PolicyScheduler | undefined;
  readonly #spaceWatch: SpaceWatch;
  readonly #scrubTimer: ScrubTimer | undefined;
  readonly #stop = new AbortController();
  readonly #manager: ServiceManager | undefined;
  readonly #settings: LiveSettings;
  #closing: Promise<void> | undefined;

  constructor(
    request: DaemonRequest,
    info: VolumeInfo,
    volume: NativeVolume,
    log: Log,
    manager: ServiceManager | undefined,
    settings: LiveSettings,
  ) {
    this.#settings = settings;
    this.#manager = manager;
    this.#request = request;
    this.#info = info;
    this.#watch = new EventWatch(volume);
    this.#volume = announcing(volume, this.#watch);
    this.#log = log;
    const access = request.open.readOnly === true ? 'read-only' : 'read-write';
    this.#policy = new LocalPolicy(info.path, access, this.#volume);
    this.#vault = new LocalVault(
      this.#volume,
      (idleMs) => log.info(`locked the vault, which nobody used for ${Math.round(idleMs / 1000)} s`),
      (error) => log.warn(`the vault cannot lock itself: ${toVerfsError(error).message}`),
    );
    this.#spaceWatch = new SpaceWatch(() => volume.stats(), log);
    this.#scheduler = access === 'read-only' ? undefined : new PolicyScheduler(this.#policy, log);
    const scrubbed = { volume: this.#volume, created: info.created, policy: () => this.#policy.read() };
    this.#scrubTimer = access === 'read-only' ? undefined : new ScrubTimer(scrubbed, log);
  }

  async serve(
    mountpoint: string,
    logFile: string,
    stopAsked: AbortSignal,
    onReady: (status: DaemonStatus) => void,
  ): Promise<void> {
    const { uuid, path } = this.#info;
    const stop = AbortSignal.any([stopAsked, this.#stop.signal]);
    const since = Date.now();
    const status = async (): Promise<DaemonStatus> => {
      const { dirtyBytes, damaged, tasks, overdue, freeBytes, totalBytes } = await this.#volume.stats();
      const space = { freeBytes, state: spaceState({ freeBytes, totalBytes }) };
      const access = this.#request.open.readOnly === true ? 'read-only' : 'read-write';
      const identity = { volume: path, uuid, mountpoint, access, pid: process.pid, version: version() } as const;
      const policy = this.#scheduler?.progress() ?? null;
      const scrub = await this.#volume.scrubStatus();
      const stillForMs = await this.#volume.stillFor();
      const serving = { since, logFile, dirtyBytes, space, damaged, tasks, overdue, scrub, stillForMs, policy };
      return { state: 'mounted', ...identity, ...serving };
    };
    const handlers: ControlHandlers = {
      ...settingsHandlers(this.#settings),
      ...vaultHandlers(this.#vault),
      ...scrubHandlers(this.#volume),
      ...transferHandlers(this.#volume),
      ...freezeHandlers(this.#volume, this.#request.mount.deadlineMs ?? 0),
      ...eventHandlers(this.#watch),
      ...snapshotHandlers(this.#volume, this.#policy, () => this.#scheduler?.wake()),
      status,
      stats: () => this.#volume.stats(),
      info: () => this.#volume.info(),
      usage: ({ path: within }, { signal }) => this.#volume.usage(within, signal),
      gc: (_, { signal }) => this.#volume.gc(signal),
      gcPlan: () => this.#volume.gcPlan(),
      gcStatus: () => this.#volume.gcStatus(),
      sync: async () => {
        await this.#volume.sync();
        return null;
      },
      unmount: async () => {
        this.#stop.abort('a command asked for it');
        const closed = this.#close('a command asked for it');
        const isClosed = closed.then(() => false);
        if (await Promise.race([isClosed, lingers(path, mountpoint, this.#volume.waitUnmounted())])) {
          return { daemon: 'lingers' } as const;
        }
        await closed;
        return { daemon: 'ends' } as const;
      },
    };
    const control = await serveControl(socketPath(uuid), handlers, this.#log);
    let metrics: MetricsServer | undefined;
    try {
      metrics = await this.#serveMetrics(mountpoint);
      await this.#volume.mount(mountpoint, this.#request.mount);
      checkAlone(path, mountpoint);
      register({ uuid, pid: process.pid, volume: path, mountpoint });
      this.#log.info(`mounted ${path} at ${mountpoint}, process ${process.pid}`);
      const serving = await status();
      throwIfStopped(stop);
      onReady(serving);
      this.#manager?.ready(mountpoint);
      this.#scheduler?.start();
      this.#spaceWatch.start();
      this.#scrubTimer?.start();
      await Promise.race([this.#volume.waitUnmounted(), aborted(stop)]);
      await this.#close(stop.aborted ? String(stop.reason) : 'somebody unmounted it');
    } catch (error) {
      await this.#close('it failed').catch(() => undefined);
      throw error;
    } finally {
      unregister(uuid);
      await metrics?.close();
      await control.close();
    }
  }

  async #serveMetrics(mountpoint: string): Promise<MetricsServer | undefined> {
    const { metrics } = this.#request;
    const identity = { version: version(), uuid: this.#info.uuid, mountpoint };
    const text = async () => exposition(await this.#volume.stats(), identity);
    return metrics === '' ? undefined : await serveMetrics(metrics, text, this.#log);
  }

  /** Barrier, unmount, close; done once. */
  #close(reason: string): Promise<void> {
    this.#closing ??= this.#closeNow(reason);
    return this.#closing;
  }

  async #closeNow(reason: string): Promise<void> {
    this.#log.info(`unmounting: ${reason}`);
    const began = Date.now();
    const { shutdownTargetMs } = this.#request;
    // Until it asks again there is time for two more looks.
    const tellManager = () => this.#manager?.stopping(shutdownTargetMs * 3);
    tellManager();
    const late = setInterval(() => {
      tellManager();
      const seconds = Math.round((Date.now() - began) / 1000);
      this.#log.warn(`not closed after ${seconds} s: data are being made durable, or somebody has files open`);
    }, shutdownTargetMs);
    try {
      this.#vault.stop();
      this.#spaceWatch.stop();
      await this.#scheduler?.stop();
      await this.#scrubTimer?.stop();
      await this.#volume.close();
      this.#watch.tell({ type: 'unmounted' });
      this.#watch.stop();
      this.#log.info(`closed after ${Date.now() - began} ms`);
    } finally {
      clearInterval(late);
    }
  }
}

/** Has SIGHUP read the configuration again. Returns what ends that. */
function reloadOnHangUp(settings: LiveSettings, manager: ServiceManager | undefined, log: Log): () => void {
  const onHangUp = async () => {
    manager?.reloading();
    try {
      await settings.reload();
    } catch (thrown) {
      log.error(`the configuration stays as it is: ${toVerfsError(thrown).message}`);
    } finally {
      manager?.reloaded();
    }
  };
  process.on('SIGHUP', onHangUp);
  return () => process.off('SIGHUP', onHangUp);
}

interface Place {
  readonly info: VolumeInfo;
  readonly mountpoint: string;
  readonly logFile: string;
}

async function openAndServe(
  request: DaemonRequest,
  { info, mountpoint, logFile }: Place,
  stream: LogStream,
  { stop, notify, hangUp }: HostSurroundings,
  onReady: (status: DaemonStatus) => void,
): Promise<void> {
  const log = stream.for('daemon');
  const manager = notify === undefined ? undefined : serviceManager(log);
  setLogSink(request.log.level, (record) => stream.write(record));
  try {
    // Not with `stop`: it would be closed in the background then, and be ours still when what was made is removed.
    const volume = await NativeVolume.open(info.path, request.open);
    try {
      throwIfStopped(stop);
      await detachLeftovers(info.path, log);
      const settings = new LiveSettings(request, volume, stream, log);
      const host = new Host(request, info, volume, log, manager, settings);
      const release = hangUp === 'reload' ? reloadOnHangUp(settings, manager, log) : () => undefined;
      try {
        await host.serve(mountpoint, logFile, stop, onReady);
      } finally {
        release();
      }
    } finally {
      // Closed already unless an error came before `serve`: closing again is harmless.
      await volume.close().catch(() => undefined);
    }
  } catch (error) {
    log.error(toVerfsError(error).message);
    throw error;
  }
}

/**
 * Opens the volume, mounts it, and serves it and its control socket until it is unmounted: by `stop`, by a command, or
 * by umount(8). Resolves once everything is durable and the volume is closed.
 *
 * @throws Every error of `Volume.open` and `Volume.mount`; nothing is left mounted or made then.
 */
export async function hostVolume(request: DaemonRequest, surroundings: HostSurroundings): Promise<void> {
  const mountpoint = await checkMountpoint(request.mountpoint);
  prepareRuntimeDirectory();
  await forgetDead();
  const found = await findOrCreate(request);
  let ready = false;
  try {
    const path = await resolveLinks(found.info.path);
    const { uuid, holderPid } = found.info;
    if (typeof holderPid === 'number') {
      const there = registered().find((served) => served.uuid === uuid && served.pid === holderPid)?.mountpoint;
      const use = there === undefined ? 'in use' : `mounted at ${there}`;
      const advice =
        there === undefined ? 'Wait until that process ends.' : `Unmount it first: \`verfs unmount ${there}\`.`;
      throw new VolumeLockedError(`The volume ${path} is ${use} by process ${holderPid}`, { path, advice });
    }
    throwIfStopped(surroundings.stop);
    const logFile = join(request.log.directory, `${uuid}.log`);
    const stream = openLog({ ...request.log, file: logFile, stderr: surroundings.stderr });
    surroundings.onLog?.(stream.for('daemon'));
    try {
      const place = { info: { ...found.info, path }, mountpoint, logFile };
      await openAndServe(request, place, stream, surroundings, (status) => {
        ready = true;
        surroundings.onReady({ status, volume: found.how });
      });
    } finally {
      await stream.close();
    }
  } catch (error) {
    if (!ready) {
      // Of two errors the first one is to be told.
      await found.undo().catch(() => undefined);
    }
    throw error;
  }
}
