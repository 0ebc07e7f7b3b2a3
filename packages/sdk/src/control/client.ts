import { connect, type Socket } from 'node:net';
import type { LiveKey } from '@verfs/config';
import {
  CancelledError,
  ClosedError,
  DaemonDiedError,
  InternalError,
  isErrorRecord,
  NotMountedError,
  PermissionError,
  restoreError,
  TimeoutError,
  UsageError,
} from '@verfs/errors';
import { createFs, MountedFiles, type VolumeFs } from '@verfs/fs';
import type {
  ExportSource,
  GcProgress,
  GcStatus,
  Reclaimable,
  ScrubProgress,
  ScrubResult,
  ScrubStatus,
  Stats,
  TransferProgress,
  TransferReport,
  Usage,
  VolumeInfo,
} from '@verfs/native';
import {
  CancellationTokenSource,
  createMessageConnection,
  type MessageConnection,
  ResponseError,
  SocketMessageReader,
  SocketMessageWriter,
} from 'vscode-jsonrpc/node';
import { functionOf, signalOf, textOf } from '../arguments.ts';
import type { Cancellable } from '../cancellable.ts';
import { collectionOf } from '../collection.ts';
import type { LiveValues } from '../daemon/live-settings.ts';
import { VolumeEmitter } from '../emitter.ts';
import type { VolumeEvent } from '../events.ts';
import { checkFreezeMs } from '../freeze.ts';
import { currentMounts, fileSystemType, isBesideTree, isStale, mountOf, resolveLinks, showsVolume } from '../mounts.ts';
import type { VolumePolicy } from '../policy.ts';
import { mayServe, registered, type Served, socketPath } from '../registry.ts';
import { type ScrubOptions, scrubOf } from '../scrub.ts';
import { Snapshots } from '../snapshots.ts';
import { type CopyOptions, exportPlaces, importPlaces, transferOptionsOf } from '../transfer.ts';
import { Vault } from '../vault.ts';
import type { Work } from '../work.ts';
import {
  type ControlMethod,
  type ControlMethods,
  type DaemonStatus,
  type ParametersOf,
  type ProgressReport,
  progressMethod,
  type Unmounted,
} from './protocol.ts';
import { RemotePolicy, RemoteSnapshots, RemoteVault, type Request, type RequestOptions } from './remote.ts';

/** Time within which a daemon answers what needs no work of it, in milliseconds. */
const answerWithinMs = 10_000;

/** The daemon that serves the volume at `target`, or in whose mount `target` lies. */
export async function findServed(target: string): Promise<Served | undefined> {
  const path = await resolveLinks(target);
  const records = registered();
  const mount = mountOf(path, currentMounts());
  if (mount !== undefined && showsVolume(mount)) {
    // Snapshots and the vault are mounted somewhere else.
    const isAt = (mountpoint: string) => mount.type !== fileSystemType || mountpoint === mount.mountpoint;
    const served = records.find(({ mountpoint, volume }) => isAt(mountpoint) && volume === mount.source);
    if (served !== undefined) {
      return served;
    }
  }
  return records.find((served) => served.volume === path && mayServe(served));
}

/** The error of a daemon that is gone, or does not answer. */
function daemonDied(mountpoint: string, what: string, cause?: unknown): DaemonDiedError {
  const advice = 'Mount the volume again, everything synced is kept, or detach it: `verfs unmount {path}`.';
  return new DaemonDiedError(what, { path: mountpoint, advice, cause });
}

/**
 * To be called when no daemon was found for `target`: it may be in a mount all the same.
 *
 * @throws DaemonDiedError, PermissionError when the daemon is another user's.
 */
export async function refuseUnserved(target: string): Promise<void> {
  const path = await resolveLinks(target);
  const mount = mountOf(path, currentMounts());
  if (mount === undefined || !showsVolume(mount)) {
    return;
  }
  const { mountpoint, source } = mount;
  if (await isStale(mountpoint)) {
    throw daemonDied(mountpoint, `The daemon of ${mountpoint} is gone`);
  }
  const what = `${path} is in the mount of ${source} at ${mountpoint}, which another user's daemon serves`;
  throw new PermissionError(what, { path, advice: 'Ask as the user who mounted it.' });
}

function dial(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.off('error', reject);
      resolve(socket);
    });
    socket.once('error', reject);
  });
}

/** Who wants to know how far a copy is. */
function tellingOf(options: CopyOptions): RequestOptions<'import' | 'export'> {
  const signal = signalOf(options);
  const onProgress = functionOf('onProgress', options.onProgress);
  return onProgress === undefined
    ? { signal }
    : { signal, onProgress: async (value: TransferProgress) => onProgress(value) };
}

/**
 * Refuses what cannot be sent: of a caller without types.
 *
 * @throws UsageError
 */
function refuseUnsendable(method: ControlMethod, parameters: object): void {
  try {
    JSON.stringify(parameters);
  } catch (cause) {
    const what = `An argument of ${method} is nothing that can be sent to the daemon: ${(cause as Error).message}`;
    throw new UsageError(what, { advice: 'See the types of the package.', cause });
  }
}

/** A volume that another process serves, through its control socket. Use it with `await using`, or close it. */
export class VolumeClient extends VolumeEmitter implements AsyncDisposable {
  /** The daemon, as it registered itself. */
  readonly served: Served;
  readonly #socket: Socket;
  readonly #connection: MessageConnection;
  readonly #ended: Promise<never>;
  #isClosed = false;
  /** Calls that were made, and by their number who wants to know how they go. */
  #calls = 0;
  readonly #listeners = new Map<number, (value: unknown) => Promise<void>>();
  /** The snapshots of the volume. */
  readonly snapshots: Snapshots;
  /** When snapshots are taken by themselves, and which are kept. */
  readonly policy: VolumePolicy;
  /** Its encrypted folder. */
  readonly vault: Vault;
  #fs: VolumeFs | undefined;
  /** Resolves when the daemon tells of events, if it was asked to. */
  #listening: Promise<void> | undefined;
  readonly #tells = new Set<(event: VolumeEvent) => void>();

  private constructor(served: Served, socket: Socket) {
    super();
    this.served = served;
    this.#socket = socket;
    this.#connection = createMessageConnection(new SocketMessageReader(socket), new SocketMessageWriter(socket));
    this.#ended = new Promise((_, reject) => {
      const died = (cause?: unknown) => {
        const path = served.mountpoint;
        reject(
          new DaemonDiedError(`The daemon of ${path} (process ${served.pid}) closed the connection`, { path, cause }),
        );
      };
      socket.on('error', died);
      socket.once('close', () => {
        died();
        this.#end();
      });
    });
    // Nobody may be waiting when the connection ends.
    this.#ended.catch(() => undefined);
    this.#connection.onError(() => undefined);
    this.#connection.onRequest(progressMethod, async ({ progress, value }: ProgressReport) => {
      await this.#listeners.get(progress)?.(value);
      return null;
    });
    const request: Request = (method, parameters, options) => this.#long(method, parameters, options);
    this.snapshots = new Snapshots(new RemoteSnapshots(request));
    this.policy = new RemotePolicy(request);
    this.vault = new Vault(new RemoteVault(request));
    this.#connection.listen();
  }

  /**
   * Connects to the daemon that serves the volume in the directory `target`, or in whose mount the path `target` lies.
   *
   * @throws NotMountedError, DaemonDiedError
   */
  static async connect(target: string): Promise<VolumeClient> {
    const served = await findServed(textOf('target', target));
    if (served === undefined) {
      await refuseUnserved(target);
      const path = await resolveLinks(target);
      const advice = 'Mount a volume first: `verfs mount MOUNTPOINT`.';
      throw new NotMountedError(`No VerFS volume is mounted at ${path}, and none from there`, { path, advice });
    }
    return VolumeClient.to(served);
  }

  /**
   * Connects to a registered daemon.
   *
   * @throws DaemonDiedError
   */
  static async to(served: Served): Promise<VolumeClient> {
    try {
      return new VolumeClient(served, await dial(socketPath(served.uuid)));
    } catch (cause) {
      const what = `The daemon of ${served.mountpoint} (process ${served.pid}) does not answer`;
      throw daemonDied(served.mountpoint, what, cause);
    }
  }

  /**
   * Its files, with the interface of Node's `fs`, through the mount: as `Volume.fs`, with the root of the volume as `/`.
   * Owners and permissions are those of this process's user, as the kernel sees them.
   */
  get fs(): VolumeFs {
    this.#fs ??= createFs(new MountedFiles(this.served.mountpoint, (target) => this.#isBeside(target)));
    return this.#fs;
  }

  protected override listen(tell: (event: VolumeEvent) => void): () => void {
    const stop = new AbortController();
    this.#tells.add(tell);
    this.#listening = new Promise<void>((begun) => {
      const onProgress = async (event: VolumeEvent | null) => (event === null ? begun() : tell(event));
      // The end of the connection is told as an event.
      this.#request('events', undefined, { signal: stop.signal, onProgress }, () => new CancelledError('events'))
        .catch(() => undefined)
        .finally(begun);
    });
    return () => {
      this.#tells.delete(tell);
      stop.abort();
    };
  }

  /** The connection is over. */
  #end(): void {
    for (const tell of this.#tells) {
      tell({ type: 'closed' });
    }
    this.#tells.clear();
  }

  /** Whether snapshots or the vault of the volume are mounted at `target`. */
  #isBeside(target: string): boolean {
    const { volume } = this.served;
    return currentMounts().some(
      (mount) => mount.mountpoint === target && mount.source === volume && isBesideTree(mount),
    );
  }

  async #request<M extends ControlMethod>(
    method: M,
    parameters: ParametersOf<M>,
    { signal: patience, onProgress }: RequestOptions<M>,
    onAbort: () => Error,
  ): Promise<ControlMethods[M]> {
    if (this.#isClosed) {
      throw new ClosedError(`The connection to the daemon of ${this.served.mountpoint} is closed`);
    }
    if (patience?.aborted) {
      throw onAbort();
    }
    let abort: (() => void) | undefined;
    const cancel = new CancellationTokenSource();
    const aborted = new Promise<never>((_, reject) => {
      abort = () => {
        cancel.cancel();
        reject(onAbort());
      };
      patience?.addEventListener('abort', abort, { once: true });
    });
    this.#calls += 1;
    const progress = this.#calls;
    if (onProgress !== undefined) {
      this.#listeners.set(progress, onProgress as (value: unknown) => Promise<void>);
    }
    const sent = { ...parameters, ...(onProgress === undefined ? {} : { progress }) };
    try {
      refuseUnsendable(method, sent);
      const answer = this.#connection.sendRequest<ControlMethods[M]>(method, sent, cancel.token);
      return await Promise.race([answer, aborted, this.#ended]);
    } catch (thrown) {
      if (thrown instanceof ResponseError) {
        throw isErrorRecord(thrown.data)
          ? restoreError(thrown.data, thrown)
          : new InternalError(`The daemon refused ${method}: ${thrown.message}`, { cause: thrown });
      }
      throw thrown;
    } finally {
      this.#listeners.delete(progress);
      if (abort !== undefined) {
        patience?.removeEventListener('abort', abort);
      }
    }
  }

  #quick<M extends ControlMethod>(method: M): Promise<ControlMethods[M]> {
    const path = this.served.mountpoint;
    const late = () =>
      new TimeoutError(`The daemon of ${path} (process ${this.served.pid}) did not answer ${method}`, { path });
    // What takes parameters isn't quick.
    return this.#request(method, undefined as ParametersOf<M>, { signal: AbortSignal.timeout(answerWithinMs) }, late);
  }

  async #long<M extends ControlMethod>(
    method: M,
    parameters: ParametersOf<M>,
    options: RequestOptions<M> = {},
  ): Promise<ControlMethods[M]> {
    const signal = signalOf(options);
    // What it does is told to those who listen.
    await this.#listening;
    const cancelled = () => new CancelledError(`${method} was cancelled; the daemon may complete it`);
    return await this.#request(method, parameters, { ...options, signal }, cancelled);
  }

  /** The state of the mount. */
  status(): Promise<DaemonStatus> {
    return this.#quick('status');
  }

  /** State and counters of the volume. */
  stats(): Promise<Stats> {
    return this.#quick('stats');
  }

  /** What everything at and below `path` takes, from the root of the volume. */
  usage(path = '', options: Cancellable = {}): Promise<Usage> {
    return this.#long('usage', { path }, options);
  }

  /**
   * Copies what is at `source` on this machine to the new path `target` in the volume, as `Volume.import` does. The
   * daemon does it, as the user that it is.
   */
  async import(source: string, target: string, options: CopyOptions = {}): Promise<TransferReport> {
    const [from, to] = importPlaces(source, target);
    const parameters = { source: from, target: to, ...transferOptionsOf(options) };
    return await this.#long('import', parameters as ParametersOf<'import'>, tellingOf(options));
  }

  /** Copies a path of the volume, or of one of its snapshots, to the new path `target`, as `Volume.export` does. */
  async export(source: ExportSource, target: string, options: CopyOptions = {}): Promise<TransferReport> {
    const [from, to] = exportPlaces(source, target);
    const parameters = { ...from, target: to, ...transferOptionsOf(options) };
    return await this.#long('export', parameters as ParametersOf<'export'>, tellingOf(options));
  }

  /** Holds the volume still, as `Volume.freeze` does. The daemon lets it go on when the time is over. */
  async freeze(forMs: number, options: Cancellable = {}): Promise<void> {
    await this.#long('freeze', { forMs: checkFreezeMs(forMs) }, options);
  }

  /** Lets it go on, as `Volume.thaw` does. */
  async thaw(): Promise<void> {
    await this.#long('thaw', undefined);
  }

  /** What the superblock says. */
  info(): Promise<VolumeInfo> {
    return this.#quick('info');
  }

  /**
   * Changes a setting until the volume is unmounted; `value` is as in the configuration. Resolves with all that can be
   * changed so.
   */
  setConfig(key: string, value: string | number): Promise<LiveValues> {
    return this.#long('configSet', { key, value });
  }

  /** Has the daemon read its configuration again; resolves with the keys that were changed. */
  reloadConfig(): Promise<readonly LiveKey[]> {
    return this.#quick('configReload');
  }

  /** Collects garbage now, as `Volume.gc` does. */
  gc(options: Cancellable = {}): Work<GcProgress, GcProgress> {
    const gc = (signal?: AbortSignal) => this.#long('gc', undefined, { signal });
    return collectionOf({ gc, gcStatus: () => this.gcStatus() }, options);
  }

  /** What `gc` would find; changes nothing. */
  gcPlan(): Promise<Reclaimable> {
    return this.#quick('gcPlan');
  }

  /** What garbage collection does at this moment, and did since the volume was mounted. */
  gcStatus(): Promise<GcStatus> {
    return this.#quick('gcStatus');
  }

  /** Checks every stored record, as `Volume.scrub` does. Cancelled, it stops, if nobody else began it. */
  scrub(options: ScrubOptions = {}): Work<ScrubProgress, ScrubResult> {
    const scrub = (rateBytes: number | undefined, signal?: AbortSignal) =>
      this.#long('scrub', rateBytes === undefined ? {} : { rateBytes }, { signal });
    return scrubOf({ scrub, scrubStatus: () => this.scrubStatus() }, options);
  }

  /** Has the scrub that runs stop. */
  async scrubStop(): Promise<void> {
    await this.#quick('scrubStop');
  }

  /** How far a scrub is, and how the last one ended. */
  scrubStatus(): Promise<ScrubStatus> {
    return this.#quick('scrubStatus');
  }

  /** Resolves once everything done before is durable. */
  async sync(options: Cancellable = {}): Promise<void> {
    await this.#long('sync', undefined, options);
  }

  /** Makes everything durable and unmounts. The daemon ends, at once or with the last who has files open. */
  unmount(options: Cancellable = {}): Promise<Unmounted> {
    return this.#long('unmount', undefined, options);
  }

  /** Ends the connection; the daemon goes on. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#connection.dispose();
    this.#socket.destroy();
    this.#end();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
