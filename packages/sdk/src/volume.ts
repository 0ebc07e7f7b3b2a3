import { resolve } from 'node:path';
import { createFs, type VolumeFs } from '@verfs/fs';
import {
  type CreateOptions,
  type ExportSource,
  type FsckProgress,
  type FsckReport,
  type GcProgress,
  type GcStatus,
  type MountOptions,
  NativeVolume,
  type OpenOptions,
  type Reclaimable,
  type ScrubProgress,
  type ScrubResult,
  type ScrubStatus,
  type Stats,
  type TransferReport,
  type Usage,
  type VolumeInfo,
} from '@verfs/native';
import { functionOf, optionsOf, signalOf, textOf } from './arguments.ts';
import type { Cancellable } from './cancellable.ts';
import { collectionOf } from './collection.ts';
import type { VolumeClient } from './control/client.ts';
import { VolumeEmitter } from './emitter.ts';
import { announcing, EventWatch, type VolumeEvent } from './events.ts';
import { checkFreezeMs } from './freeze.ts';
import { LocalVault } from './local-vault.ts';
import { checkCreateOptions, checkMountOptions, checkOpenOptions } from './options.ts';
import { LocalPolicy, type VolumePolicy } from './policy.ts';
import { type ScrubOptions, scrubOf } from './scrub.ts';
import { Snapshots } from './snapshots.ts';
import { type CopyOptions, exportPlaces, exportTree, importPlaces, importTree } from './transfer.ts';
import { Vault } from './vault.ts';
import type { Work } from './work.ts';

/** How a volume is checked. */
export interface FsckOptions extends Cancellable {
  /** Whether what can be mended is; `false` without. */
  readonly repair?: boolean | undefined;
  /** Called a few times a second. */
  readonly onProgress?: ((progress: FsckProgress) => void) | undefined;
}

/**
 * A volume that this process has open. A process that has a volume open is its only one; use `Volume.connect` for
 * a volume that a daemon serves.
 *
 * ```ts
 * await Volume.create('/srv/volume');
 * await using volume = await Volume.open('/srv/volume');
 * await volume.mount('/mnt/volume');
 * ```
 *
 * It tells with `on` what happens to it, whoever did that:
 *
 * ```ts
 * volume.on('snapshotCreated', ({ snapshot }) => console.log(snapshot.name));
 * volume.on('event', ({ type }) => console.log(type));
 * await volume.snapshots.create('first');
 * ```
 */
export class Volume extends VolumeEmitter implements AsyncDisposable {
  readonly #native: NativeVolume;
  readonly #vault: LocalVault;
  readonly #watch: EventWatch;
  #isHeard = false;
  #isMounted = false;
  /** Resolves when it is told that the mount is gone, where somebody wants to know. */
  #mountEnd: Promise<void> | undefined;
  /** The snapshots of the volume. */
  readonly snapshots: Snapshots;
  /** When snapshots are taken, and which are kept: this process calls `policy.run()` from time to time. */
  readonly policy: VolumePolicy;
  /** Its encrypted folder. */
  readonly vault: Vault;
  #fs: VolumeFs | undefined;
  #isClosed = false;

  private constructor(native: NativeVolume, path: string, access: 'read-write' | 'read-only') {
    super();
    this.#watch = new EventWatch(native);
    this.#native = announcing(native, this.#watch);
    this.snapshots = new Snapshots(this.#native);
    this.policy = new LocalPolicy(path, access, this.#native);
    this.#vault = new LocalVault(this.#native);
    this.vault = new Vault(this.#vault);
  }

  protected override listen(tell: (event: VolumeEvent) => void): () => void {
    const unlisten = this.#watch.listen(tell);
    this.#isHeard = true;
    this.#watchMount();
    return () => {
      this.#isHeard = false;
      unlisten();
    };
  }

  /** The wait for the end of the mount takes a thread, and keeps the process alive: only where somebody wants to know. */
  #watchMount(): void {
    if (this.#isMounted && this.#isHeard) {
      this.#mountEnd ??= this.#native
        .waitUnmounted()
        .catch(() => undefined)
        .then(() => {
          this.#mountEnd = undefined;
          this.#isMounted = false;
          this.#watch.tell({ type: 'unmounted' });
        });
    }
  }

  /**
   * Makes a volume in the directory `path`, which is empty or does not exist.
   *
   * @throws UsageError, VolumeExistsError, VolumeFullError, VolumeReadOnlyError, PermissionError, IoError, CancelledError
   */
  static async create(path: string, options: CreateOptions & Cancellable = {}): Promise<VolumeInfo> {
    const { signal: _, ...create } = optionsOf(options);
    return await NativeVolume.create(textOf('path', path), checkCreateOptions(create), signalOf(options));
  }

  /**
   * Reads the superblock of the volume at `path`, also while another process has it open.
   *
   * @throws NotAVolumeError, FormatNewerError, SuperblockDamagedError, PermissionError, IoError
   */
  static async inspect(path: string): Promise<VolumeInfo> {
    return await NativeVolume.inspect(textOf('path', path));
  }

  /**
   * Checks the volume at `path`, which nobody has open: whether its parts agree with each other. Repair mends what can be
   * mended, and deletes nothing that a file may consist of. Cancelled, a check has changed nothing, and the next repair
   * completes what this one began; the volume is let go of a moment after the call is rejected.
   *
   * @throws VolumeLockedError when it is mounted or open; NotAVolumeError, FormatNewerError, SuperblockDamagedError,
   * PermissionError, IoError, CancelledError. Other damage is in the report.
   */
  static async fsck(path: string, options: FsckOptions = {}): Promise<FsckReport> {
    const { repair = false, onProgress } = optionsOf(options);
    const tell = functionOf('onProgress', onProgress);
    return await NativeVolume.fsck(resolve(textOf('path', path)), repair, tell, signalOf(options));
  }

  /**
   * Opens the volume at `path` and recovers what a crash left.
   *
   * @throws UsageError, NotAVolumeError, VolumeLockedError, VolumeReadOnlyError, FormatNewerError,
   * SuperblockDamagedError, DamagedError, MetadataOlderError, MetadataMissingError, PermissionError, IoError,
   * CancelledError
   */
  static async open(path: string, options: OpenOptions & Cancellable = {}): Promise<Volume> {
    const { signal: _, ...open } = optionsOf(options);
    // Whatever the current directory will be when it is used.
    const absolute = resolve(textOf('path', path));
    const native = await NativeVolume.open(absolute, checkOpenOptions(open), signalOf(options));
    const isReadOnly = open.readOnly === true || open.readOnlyRecovery === true;
    return new Volume(native, absolute, isReadOnly ? 'read-only' : 'read-write');
  }

  /**
   * Connects to the daemon that serves the volume in the directory `target`, or in whose mount the path `target` lies.
   *
   * @throws NotMountedError, DaemonDiedError
   */
  static async connect(target: string): Promise<VolumeClient> {
    const { VolumeClient: Client } = await import('./control/client.ts');
    return Client.connect(target);
  }

  /**
   * Its files, with the interface of Node's `fs`: no mount and no root rights are needed. Paths begin at the root of the
   * volume, and lead into its snapshots and its unlocked vault as in a mount; owners and permissions are those of this
   * process's user, and its umask is the one at the first use.
   *
   * ```ts
   * await volume.fs.promises.writeFile('/notes.txt', 'first line');
   * await volume.snapshots.create('before');
   * const text = await volume.fs.promises.readFile('/.snapshots/before/notes.txt', 'utf8');
   * ```
   */
  get fs(): VolumeFs {
    this.#fs ??= createFs(this.#native.files(process.umask()));
    return this.#fs;
  }

  /**
   * Mounts the volume at the empty directory `mountpoint`; resolves once the kernel answers. The mount lives as long
   * as this process at most.
   *
   * @throws UsageError, MountpointMissingError, MountpointNotDirError, MountpointNotEmptyError, AlreadyMountedError,
   * MountpointStaleError, NoFuseDeviceError, NoFusermountError, PermissionError, IoError, CancelledError
   */
  async mount(mountpoint: string, options: MountOptions & Cancellable = {}): Promise<void> {
    const { signal: _, ...mount } = optionsOf(options);
    await this.#native.mount(textOf('mountpoint', mountpoint), checkMountOptions(mount), signalOf(options));
    this.#isMounted = true;
    this.#watch.tell({ type: 'mounted', mountpoint });
    this.#watchMount();
  }

  /** Makes everything durable, then unmounts. A mount in use goes when its last user does. Cancelled, it goes on. */
  async unmount(options: Cancellable = {}): Promise<void> {
    return await this.#native.unmount(signalOf(options));
  }

  /** Resolves once the mount is gone, whoever unmounted it. */
  async waitUnmounted(options: Cancellable = {}): Promise<void> {
    return await this.#native.waitUnmounted(signalOf(options));
  }

  /** Resolves once everything done before is durable. */
  async sync(options: Cancellable = {}): Promise<void> {
    return await this.#native.sync(signalOf(options));
  }

  /**
   * Collects garbage now, from every pack that has some: gives the room of deleted data back to the disk. Resolves when
   * it is done. Cancelled, it stops, unless somebody else waits for it too; what came back stays so.
   *
   * @throws VolumeFullError when there is no room even for what is needed of one pack, UsageError for a volume that was
   * opened to be read only, IoError, CancelledError
   */
  gc(options: Cancellable = {}): Work<GcProgress, GcProgress> {
    return collectionOf(this.#native, options);
  }

  /** What `gc` would find; changes nothing. */
  gcPlan(): Promise<Reclaimable> {
    return this.#native.gcPlan();
  }

  /** What garbage collection does at this moment, and did since the volume was opened. */
  gcStatus(): Promise<GcStatus> {
    return this.#native.gcStatus();
  }

  /**
   * Checks every stored record, the vault's included: its checksum, and that it is what its name says. Resolves when all
   * were seen, or when `scrubStop` was called. Cancelled, it stops. Stopped, the next call goes on. Damaged files are in
   * `stats().damaged` then.
   *
   * @throws UsageError, IoError, ClosedError, CancelledError
   */
  scrub(options: ScrubOptions = {}): Work<ScrubProgress, ScrubResult> {
    return scrubOf(this.#native, options);
  }

  /** Has the scrub that runs stop. */
  scrubStop(): Promise<void> {
    return this.#native.scrubStop();
  }

  /** How far a scrub is, and how the last one ended. */
  scrubStatus(): Promise<ScrubStatus> {
    return this.#native.scrubStatus();
  }

  /** State and counters. */
  stats(): Promise<Stats> {
    return this.#native.stats();
  }

  /**
   * What everything at and below `path` takes, from the root of the volume; the whole volume for an empty one. It looks
   * at all of it.
   *
   * @throws PathNotFoundError, UsageError, IoError, CancelledError
   */
  async usage(path = '', options: Cancellable = {}): Promise<Usage> {
    return await this.#native.usage(textOf('path', path), signalOf(options));
  }

  /**
   * Copies what is at `source` on this machine, a directory with everything in it or anything else, to the new path
   * `target` in the volume, with modes, owners, times, extended attributes, links and holes. It appears whole, and is
   * durable then. Cancelled, it stops; the next call with the same target goes on.
   *
   * @throws SourceMissingError, PathExistsError, SourceChangedError, CopyIncompleteError, CopyDiffersError, UsageError,
   * PermissionError, VolumeFullError, VolumeReadOnlyError, IoError, CancelledError
   */
  async import(source: string, target: string, options: CopyOptions = {}): Promise<TransferReport> {
    return await importTree(this.#native, importPlaces(source, target), options);
  }

  /**
   * Copies a path of the volume, or of one of its snapshots, to the new path `target` on this machine, as `import` does
   * the other way round.
   *
   * @throws SnapshotNotFoundError, PathNotFoundError, TargetExistsError, TargetFullError, SourceMissingError for the
   * directory of `target`, and as `import`
   */
  async export(source: ExportSource, target: string, options: CopyOptions = {}): Promise<TransferReport> {
    return await exportTree(this.#native, exportPlaces(source, target), options);
  }

  /**
   * Makes everything durable and holds whatever would change a file of the volume's directory, for `forMs` milliseconds
   * at most or until `thaw`: a copy of the directory that is made meanwhile is a volume. Writers wait, readers do not.
   *
   * @throws UsageError when it stands still already; VolumeFullError, VolumeReadOnlyError, IoError, CancelledError
   */
  async freeze(forMs: number, options: Cancellable = {}): Promise<void> {
    await this.#native.freeze(checkFreezeMs(forMs), signalOf(options));
  }

  /**
   * Lets the volume go on.
   *
   * @throws FreezeBrokenError when it went on before, or its files changed all the same; UsageError when it did not
   * stand still
   */
  thaw(): Promise<void> {
    return this.#native.thaw();
  }

  /** What the superblock says. */
  info(): Promise<VolumeInfo> {
    return this.#native.info();
  }

  /** Unmounts, makes everything durable, and gives the volume back. Cancelled, it goes on. */
  async close(options: Cancellable = {}): Promise<void> {
    this.#vault.stop();
    await this.#native.close(signalOf(options));
    await this.#mountEnd;
    if (!this.#isClosed) {
      this.#isClosed = true;
      this.#watch.tell({ type: 'closed' });
      this.#watch.stop();
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
