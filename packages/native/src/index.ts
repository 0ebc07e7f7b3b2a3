/**
 * The engine, for TypeScript: loads the addon that fits the machine and turns its errors into ours.
 * Never here: policy. The only importer of the bindings; data flows through unchanged.
 */
import type {
  CreateOptions,
  DefaultOptions,
  FsckProgress,
  FsckReport,
  GcProgress,
  GcStatus,
  LogRecord,
  MountOptions,
  Volume as NativeVolumeClass,
  OpenOptions,
  Reclaimable,
  ScrubResult,
  ScrubStatus,
  Stats,
  Usage,
  VolumeInfo,
} from '@verfs/bindings';
import { CancelledError } from '@verfs/errors';
import { addon, fromAddon } from './addon.ts';
import type { NativeFiles } from './files.ts';
import type { Snapshot, SnapshotCalls, SnapshotChange, SnapshotWork } from './snapshots.ts';
import type { ReceiveRequest, SendRequest, StreamCalls } from './streams.ts';
import type { ExportSource, TransferCalls, TransferLook, TransferOptions, TransferReport } from './transfer.ts';
import type { VaultCalls, VaultStatus } from './vault.ts';

export type {
  CreateOptions,
  Damage,
  DefaultOptions,
  Finding,
  FsckProgress,
  FsckReport,
  GcProgress,
  GcStatus,
  LogRecord,
  MountOptions,
  OpenOptions,
  OpLatency,
  Overdue,
  Reclaimable,
  ScrubPass,
  ScrubProgress,
  ScrubResult,
  ScrubStatus,
  ScrubTally,
  Stats,
  TaskStatus,
  Usage,
  VolumeInfo,
} from '@verfs/bindings';
export {
  type FileAttributes,
  type FileEntries,
  type FileRoom,
  type FirstEntries,
  fileFailure,
  type NativeFiles,
} from './files.ts';
export { addonFile, addonPackage, currentPlatform, type Platform } from './platform.ts';
export type { Snapshot, SnapshotCalls, SnapshotChange, SnapshotWork } from './snapshots.ts';
export type { ReceiveRequest, SendRequest, StreamCalls } from './streams.ts';
export type {
  ExportSource,
  TransferCalls,
  TransferLook,
  TransferOptions,
  TransferProgress,
  TransferReport,
} from './transfer.ts';
export type { VaultCalls, VaultStatus } from './vault.ts';

/** Severity of a log record. */
export type LogLevel = LogRecord['level'];

type Signal = AbortSignal | undefined;

async function translated<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (thrown) {
    throw fromAddon(thrown);
  }
}

/** `promise`, or a rejection as soon as `signal` fires. */
async function cancellable<T>(promise: Promise<T>, name: string, signal: Signal): Promise<T> {
  if (signal === undefined) {
    return await promise;
  }
  let abort: () => void = () => undefined;
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(new CancelledError(`${name} was cancelled by its AbortSignal`));
  });
  signal.addEventListener('abort', abort, { once: true });
  if (signal.aborted) {
    abort();
  }
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

/** Counters of a copy that begins, shown to who wants to follow it. */
function countersFor(onBegin: (look: TransferLook) => void) {
  const counters = new (addon().TransferCounters)();
  onBegin(() => counters.progress());
  return counters;
}

/** An open volume of the engine. Every rejection is a `VerfsError`; the addon's types say what the calls do. */
export class NativeVolume implements SnapshotCalls, StreamCalls, TransferCalls, VaultCalls {
  readonly #volume: NativeVolumeClass;
  /** The wait for the end of the mount, which occupies a thread: shared by all who wait. */
  #unmounted: Promise<void> | undefined;

  private constructor(volume: NativeVolumeClass) {
    this.#volume = volume;
  }

  static create(path: string, options: CreateOptions, signal?: Signal): Promise<VolumeInfo> {
    return translated(() => addon().Volume.create(path, options, signal));
  }

  static inspect(path: string): Promise<VolumeInfo> {
    return translated(() => addon().Volume.inspect(path));
  }

  static fsck(
    path: string,
    repair: boolean,
    onProgress?: (progress: FsckProgress) => void,
    signal?: Signal,
  ): Promise<FsckReport> {
    return translated(() => addon().Volume.fsck(path, repair, onProgress, signal));
  }

  static open(path: string, options: OpenOptions, signal?: Signal): Promise<NativeVolume> {
    return translated(async () => new NativeVolume(await addon().Volume.open(path, options, signal)));
  }

  async mount(mountpoint: string, options: MountOptions, signal?: Signal): Promise<void> {
    await translated(() => this.#volume.mount(mountpoint, options, signal));
  }

  async unmount(signal?: Signal): Promise<void> {
    await translated(() => this.#volume.unmount(signal));
  }

  async waitUnmounted(signal?: Signal): Promise<void> {
    this.#unmounted ??= translated(() => this.#volume.waitUnmounted()).finally(() => {
      this.#unmounted = undefined;
    });
    await cancellable(this.#unmounted, 'waitUnmounted', signal);
  }

  async sync(signal?: Signal): Promise<void> {
    await translated(() => this.#volume.sync(signal));
  }

  gc(signal?: Signal): Promise<GcProgress> {
    return translated(() => this.#volume.gc(signal));
  }

  gcPlan(): Promise<Reclaimable> {
    return translated(() => this.#volume.gcPlan());
  }

  gcStatus(): Promise<GcStatus> {
    return translated(() => this.#volume.gcStatus());
  }

  /** Stops when `signal` fires; the next call goes on. */
  scrub(rateBytes: number | undefined, signal?: Signal): Promise<ScrubResult> {
    return translated(() => this.#volume.scrub(rateBytes, signal));
  }

  async scrubStop(): Promise<void> {
    await translated(() => this.#volume.scrubStop());
  }

  scrubStatus(): Promise<ScrubStatus> {
    return translated(() => this.#volume.scrubStatus());
  }

  stats(): Promise<Stats> {
    return translated(() => this.#volume.stats());
  }

  usage(path: string, signal?: Signal): Promise<Usage> {
    return translated(() => this.#volume.usage(path, signal));
  }

  import(
    source: string,
    target: string,
    options: TransferOptions,
    onBegin: (look: TransferLook) => void,
    signal?: Signal,
  ): Promise<TransferReport> {
    const counters = countersFor(onBegin);
    return translated(() => this.#volume.import(source, target, options, counters, signal));
  }

  export(
    { snapshot, path }: ExportSource,
    target: string,
    options: TransferOptions,
    onBegin: (look: TransferLook) => void,
    signal?: Signal,
  ): Promise<TransferReport> {
    const counters = countersFor(onBegin);
    return translated(() => this.#volume.export(snapshot, path, target, options, counters, signal));
  }

  async freeze(forMs: number, signal?: Signal): Promise<void> {
    await translated(() => this.#volume.freeze(forMs, signal));
  }

  async thaw(): Promise<void> {
    await translated(() => this.#volume.thaw());
  }

  stillFor(): Promise<number | null> {
    return translated(async () => (await this.#volume.stillFor()) ?? null);
  }

  async setChunkCacheBytes(bytes: number): Promise<void> {
    await translated(() => this.#volume.setChunkCacheBytes(bytes));
  }

  info(): Promise<VolumeInfo> {
    return translated(() => this.#volume.info());
  }

  /** Its files, for the user of this process; `umask` is taken from the modes of what he makes. */
  files(umask: number): NativeFiles {
    try {
      return this.#volume.files(umask);
    } catch (thrown) {
      throw fromAddon(thrown);
    }
  }

  snapshotCreate(name: string, note: string, signal?: Signal): Promise<Snapshot> {
    return translated(() => this.#volume.snapshotCreate(name, note, signal));
  }

  snapshots(signal?: Signal): Promise<Snapshot[]> {
    return translated(() => this.#volume.snapshots(signal));
  }

  async snapshotDelete(name: string, signal?: Signal): Promise<void> {
    await translated(() => this.#volume.snapshotDelete(name, signal));
  }

  async snapshotHold(name: string, tag: string, signal?: Signal): Promise<void> {
    await translated(() => this.#volume.snapshotHold(name, tag, signal));
  }

  async snapshotRelease(name: string, tag: string, signal?: Signal): Promise<void> {
    await translated(() => this.#volume.snapshotRelease(name, tag, signal));
  }

  async *snapshotDiff(
    from: string,
    to: string | undefined,
    signal?: Signal,
  ): AsyncGenerator<readonly SnapshotChange[], void> {
    const diff = await translated(() => this.#volume.snapshotDiff(from, to, signal));
    try {
      for (;;) {
        const changes = await translated(() => diff.next(signal));
        if (!changes) {
          return;
        }
        yield changes;
      }
    } finally {
      diff.stop();
    }
  }

  async snapshotRollback(name: string, signal?: Signal): Promise<void> {
    await translated(() => this.#volume.snapshotRollback(name, signal));
  }

  async snapshotClone(name: string, path: string, signal?: Signal): Promise<void> {
    await translated(() => this.#volume.snapshotClone(name, path, signal));
  }

  async snapshotRestore(name: string, path: string, target: string | undefined, signal?: Signal): Promise<void> {
    await translated(() => this.#volume.snapshotRestore(name, path, target, signal));
  }

  snapshotWork(): Promise<SnapshotWork> {
    return translated(() => this.#volume.snapshotWork());
  }

  snapshotSend(request: SendRequest, signal?: Signal): Promise<number> {
    const { from, resume, ...rest } = request;
    const options = { ...rest, ...(from === undefined ? {} : { from }), ...(resume === undefined ? {} : { resume }) };
    return translated(() => this.#volume.snapshotSend(options, signal));
  }

  snapshotReceive(request: ReceiveRequest, signal?: Signal): Promise<Snapshot> {
    return translated(() => this.#volume.snapshotReceive(request, signal));
  }

  interruptedReceive(signal?: Signal): Promise<string | null> {
    return translated(async () => (await this.#volume.interruptedReceive(signal)) ?? null);
  }

  vaultStatus(): Promise<VaultStatus> {
    return translated(() => this.#volume.vaultStatus());
  }

  async vaultCreate(
    options: { readonly compressed: boolean; readonly socket: string },
    signal?: Signal,
  ): Promise<void> {
    await translated(() => this.#volume.vaultCreate(options, signal));
  }

  async vaultUnlock(socket: string, signal?: Signal): Promise<void> {
    await translated(() => this.#volume.vaultUnlock(socket, signal));
  }

  async vaultCheck(socket: string, signal?: Signal): Promise<void> {
    await translated(() => this.#volume.vaultCheck(socket, signal));
  }

  async vaultLock(graceMs: number, signal?: Signal): Promise<void> {
    await translated(() => this.#volume.vaultLock(graceMs, signal));
  }

  async vaultDamaged(socket: string, signal?: Signal): Promise<void> {
    await translated(() => this.#volume.vaultDamaged(socket, signal));
  }

  async vaultChange(socket: string, signal?: Signal): Promise<void> {
    await translated(() => this.#volume.vaultChange(socket, signal));
  }

  async vaultRekey(socket: string, signal?: Signal): Promise<void> {
    await translated(() => this.#volume.vaultRekey(socket, signal));
  }

  async close(signal?: Signal): Promise<void> {
    await translated(() => this.#volume.close(signal));
  }
}

/** Sends the engine's log records of `level` and graver to `sink`, instead of to an earlier one. */
export function setLogSink(level: LogLevel, sink: (record: LogRecord) => void): void {
  addon().setLogSink(level, sink);
}

/** The content of a new key file of a vault. */
export function newVaultKeyFile(): string {
  try {
    return addon().newVaultKeyFile();
  } catch (thrown) {
    throw fromAddon(thrown);
  }
}

/**
 * Sends `state`, lines of sd_notify(3), to the datagram socket of a service manager.
 *
 * @throws UsageError when nobody takes it.
 */
export function notifyServiceManager(socket: string, state: string): void {
  try {
    addon().notifyServiceManager(socket, state);
  } catch (thrown) {
    throw fromAddon(thrown);
  }
}

/** The user id at the other end of the Unix socket `fd`. */
export function peerUid(fd: number): number {
  return addon().peerUid(fd);
}

/** The defaults that the engine uses for options that aren't given. */
export function defaultOptions(): DefaultOptions {
  return addon().defaultOptions();
}
