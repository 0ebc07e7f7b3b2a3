/** One row of the error table. */
export interface ErrorEntry {
  /** Exit code of the `verfs` command. Stable: a code is never given to another error. */
  readonly exitCode: number;
  /** What happened, in general, for docs/ERRORS.md. */
  readonly summary: string;
  /** What to do next. `{path}` stands for the path that the error is about. */
  readonly advice: string;
}

const row = (exitCode: number, summary: string, advice: string): ErrorEntry => ({ exitCode, summary, advice });

/**
 * Every error that VerFS reports, by its stable code: the only table of its kind. The classes, the exit codes,
 * docs/ERRORS.md and a comparison with the codes of the Rust engine come from it.
 */
export const errorTable = {
  VERFS_E_INTERNAL: row(1, 'A defect of VerFS itself.', 'Please report it together with the log file.'),
  VERFS_E_USAGE: row(2, 'The command line is wrong.', 'See `verfs --help`.'),

  VERFS_E_CONFIG_KEY: row(10, 'The configuration has a key that does not exist.', 'docs/CONFIG.md lists every key.'),
  VERFS_E_CONFIG_TYPE: row(
    11,
    'A configuration value has the wrong type or is outside its bounds.',
    'docs/CONFIG.md has the type and the bounds of every key.',
  ),
  VERFS_E_CONFIG_UNIT: row(
    12,
    'A size or a duration in the configuration lacks its unit or has an unknown one.',
    'Write sizes like "64MiB" and durations like "500ms".',
  ),
  VERFS_E_CONFIG_FILE: row(
    13,
    'The configuration file cannot be read, or is not TOML.',
    'Correct the file, or name another with `--config`.',
  ),

  VERFS_E_MOUNTPOINT_MISSING: row(20, 'The mountpoint does not exist.', 'Create it: `mkdir -p {path}`.'),
  VERFS_E_MOUNTPOINT_NOT_DIR: row(21, 'The mountpoint is not a directory.', 'Choose an empty directory.'),
  VERFS_E_MOUNTPOINT_NOT_EMPTY: row(
    22,
    'The mountpoint has files in it, which the mount would hide.',
    'Choose an empty directory.',
  ),
  VERFS_E_ALREADY_MOUNTED: row(
    23,
    'Something is mounted there already, or the volume is mounted already.',
    'Unmount it first: `verfs unmount {path}`.',
  ),
  VERFS_E_MOUNTPOINT_STALE: row(
    24,
    'The mountpoint holds the mount of a process that died, and it could not be detached.',
    'Detach it as root: `umount -l {path}`.',
  ),
  VERFS_E_NOT_MOUNTED: row(25, 'No VerFS volume is mounted there.', '`verfs mount {path}` mounts one.'),

  VERFS_E_NOT_A_VOLUME: row(
    30,
    'The directory is not a VerFS volume.',
    'Make a volume with `verfs volume create DIR`, or name another with `--volume DIR`.',
  ),
  VERFS_E_VOLUME_EXISTS: row(
    31,
    'There is a volume, or something else, where the new volume would go.',
    'Choose a directory that is empty or does not exist.',
  ),
  VERFS_E_VOLUME_LOCKED: row(
    32,
    'Another process has the volume open.',
    'Wait until it ends, or unmount the volume there.',
  ),
  VERFS_E_VOLUME_READ_ONLY: row(
    33,
    'The volume, or the disk that holds it, takes no writes.',
    'Make that filesystem writable: `mount -o remount,rw`.',
  ),
  VERFS_E_VOLUME_FULL: row(
    34,
    'The disk that holds the volume has no room for this.',
    'Free space on that disk, or choose another.',
  ),
  VERFS_E_FORMAT_NEWER: row(
    35,
    'The volume was written by a newer VerFS.',
    'Update VerFS; nothing on the volume was changed.',
  ),
  VERFS_E_SUPERBLOCK_DAMAGED: row(
    36,
    'The superblock of the volume (volume.toml) is damaged.',
    'Restore volume.toml from a backup; nothing on the volume was changed.',
  ),
  VERFS_E_DAMAGED: row(
    37,
    'Stored data do not match their checksums.',
    '`verfs status` names the files; restore them from a backup.',
  ),
  VERFS_E_METADATA_OLDER: row(
    38,
    'The metadata of the volume are older than its data.',
    'Put the newest meta/ back; or keep what is there with `verfs fsck --repair`, or look at it with `verfs mount --read-only-recovery`.',
  ),
  VERFS_E_METADATA_MISSING: row(
    39,
    'The volume has data, and its metadata are missing.',
    'Put meta/ back from a copy; without one `verfs fsck --repair` keeps the data without their names in lost+found.',
  ),

  VERFS_E_NO_FUSE_DEVICE: row(
    40,
    'The kernel offers no /dev/fuse.',
    'Load the module as root: `modprobe fuse`; a container needs `--device /dev/fuse`.',
  ),
  VERFS_E_NO_FUSERMOUNT: row(
    41,
    'The program fusermount3 is missing; without root rights it is needed to mount.',
    'Install it: `sudo apt-get install fuse3`.',
  ),
  VERFS_E_PERMISSION: row(
    42,
    'The operating system refused access.',
    'Check the owner and the mode of the path, or run as its owner.',
  ),
  VERFS_E_SERVICE: row(
    43,
    'The service manager of the system refused, or has no such service.',
    '`systemctl status` and `journalctl` tell more.',
  ),
  VERFS_E_FILE_LIMIT: row(
    44,
    'The process may not open as many files as a volume needs.',
    'Raise the hard limit: `ulimit -n 4096`, or LimitNOFILE= of its systemd unit.',
  ),

  VERFS_E_IO: row(50, 'The disk or the operating system reported an error.', 'See the log file for the details.'),
  VERFS_E_CLOSED: row(51, 'The volume was used after it was closed.', 'Open it again.'),
  VERFS_E_CANCELLED: row(52, 'The call was cancelled by its AbortSignal.', 'Call again.'),
  VERFS_E_DAEMON_DIED: row(
    53,
    'The daemon of the mount ended without saying why.',
    'See the log file, then mount again: everything synced is kept.',
  ),
  VERFS_E_TIMEOUT: row(54, 'The daemon did not answer in time.', 'Try again; if that fails as well, see the log file.'),

  VERFS_E_SNAPSHOT_NOT_FOUND: row(60, 'The volume has no snapshot of this name.', '`verfs snapshot list` shows them.'),
  VERFS_E_SNAPSHOT_EXISTS: row(
    61,
    'The volume has a snapshot of this name already.',
    'Choose another name, or delete that one with `verfs snapshot delete`.',
  ),
  VERFS_E_SNAPSHOT_NAME: row(
    62,
    'A snapshot cannot have this name.',
    'Names have 1 to 255 bytes, no `/` and no control characters, do not begin with `-`, and are not `.` or `..`.',
  ),
  VERFS_E_SNAPSHOT_HELD: row(
    63,
    'The snapshot is held, so that nobody deletes it.',
    '`verfs snapshot list` shows its holds; `verfs snapshot release` ends one.',
  ),
  VERFS_E_STREAM_DAMAGED: row(
    64,
    'A stream of a snapshot does not match its checksums, or ends too early.',
    'Send it again.',
  ),
  VERFS_E_STREAM_MISMATCH: row(
    65,
    'A stream of a snapshot does not fit the volume: its base is missing there, or files changed since.',
    'Send the base first, or send the snapshot without `--from`.',
  ),
  VERFS_E_PATH_NOT_FOUND: row(
    66,
    'The snapshot, or the volume, has nothing at this path.',
    '`verfs snapshot diff` tells what changed.',
  ),
  VERFS_E_PATH_EXISTS: row(67, 'There is something at this path in the volume already.', 'Choose another path.'),

  VERFS_E_VAULT_ABSENT: row(70, 'The volume has no vault.', 'Make one with `verfs crypt -c`.'),
  VERFS_E_VAULT_EXISTS: row(71, 'The volume has a vault already.', 'Open it with `verfs crypt -u`.'),
  VERFS_E_VAULT_UNLOCKED: row(72, 'The vault is unlocked already.', 'It is in `.vault` of the mount.'),
  VERFS_E_VAULT_SECRET: row(73, 'The password or the key file is wrong.', 'Try again.'),
  VERFS_E_VAULT_RATE_LIMITED: row(
    74,
    'There were too many wrong passwords or key files.',
    'Wait as long as it says before the next try.',
  ),
  VERFS_E_VAULT_DAMAGED: row(
    75,
    'The wrapped keys of the vault are damaged: no password opens it.',
    'Restore the metadata of the volume from a copy.',
  ),
  VERFS_E_VAULT_KEY_FILE: row(
    76,
    'A key file is missing, is none, or must not be overwritten.',
    'Give the file `verfsnext.vault.key` that `verfs crypt -c` made.',
  ),
  VERFS_E_VAULT_LOCKED: row(77, 'The vault is locked.', 'Unlock it with `verfs crypt -u`.'),

  VERFS_E_FSCK_FOUND: row(
    80,
    '`verfs fsck` found damage, and was not asked to mend it.',
    'Mend it: `verfs fsck --repair`.',
  ),
  VERFS_E_FSCK_MENDED: row(81, '`verfs fsck --repair` mended everything that it found.', 'The volume can be mounted.'),
  VERFS_E_FSCK_LEFT: row(
    82,
    '`verfs fsck --repair` found damage that can not be mended: data is lost.',
    'Restore the files that it names from a copy; the others can be used.',
  ),
  VERFS_E_DOCTOR: row(83, '`verfs doctor` found a problem.', 'Do what it advises.'),

  VERFS_E_SOURCE_MISSING: row(
    84,
    'What is to be imported, or the directory to which something is to be exported, does not exist.',
    'Name a file or directory of this machine that is there.',
  ),
  VERFS_E_SOURCE_CHANGED: row(
    85,
    'Files changed while they were copied.',
    'Run it again, which goes on; of a snapshot nothing changes.',
  ),
  VERFS_E_TARGET_EXISTS: row(
    86,
    'There is something where an export, or a support bundle, would go.',
    'Name another place.',
  ),
  VERFS_E_TARGET_FULL: row(
    87,
    'The disk to which something is exported is full.',
    'Free space on that disk, and run it again, which goes on.',
  ),
  VERFS_E_COPY_INCOMPLETE: row(
    88,
    'Some of what was to be imported or exported could not be read or written.',
    'Correct what it names and run it again, which goes on, or give `--leave-out`.',
  ),
  VERFS_E_COPY_DIFFERS: row(
    89,
    'Files that were imported or exported are not stored as they were read.',
    'Run it again, which copies these anew; check the disk.',
  ),
  VERFS_E_FREEZE_BROKEN: row(
    90,
    'A volume that was held still for a copy went on, or changed, before the copy was done.',
    'Copy it again, with a longer `--for`.',
  ),
} as const satisfies Record<`VERFS_E_${string}`, ErrorEntry>;

/** A stable error code. */
export type ErrorCode = keyof typeof errorTable;

/** Every code, in the order of the table. */
export const errorCodes = Object.keys(errorTable) as ErrorCode[];

/** Whether `value` is one of our codes. */
export const isErrorCode = (value: unknown): value is ErrorCode =>
  typeof value === 'string' && Object.hasOwn(errorTable, value);
