/** Units of systemd for a mount. Never here: where they are put, or what is done with them. */

/** What a unit is made of. */
export interface UnitPlan {
  readonly scope: 'system' | 'user';
  /** Absolute. */
  readonly mountpoint: string;
  /** Absolute. */
  readonly volume: string;
  readonly config?: string | undefined;
  /** Node.js, and the program of `verfs`. */
  readonly program: readonly string[];
}

/** A path as systemd-escape(1) `--path` writes it in names of units. */
export function escapedPath(path: string): string {
  const trimmed = path.replaceAll(/\/+/g, '/').replace(/^\/|\/$/g, '');
  if (trimmed === '') {
    return '-';
  }
  const bytes = [...Buffer.from(trimmed, 'utf8')];
  return bytes
    .map((byte, index) => {
      const character = String.fromCharCode(byte);
      if (character === '/') {
        return '-';
      }
      const isPlain = /[A-Za-z0-9:_.]/.test(character) && !(index === 0 && character === '.');
      return isPlain ? character : `\\x${byte.toString(16).padStart(2, '0')}`;
    })
    .join('');
}

/** Name of the unit that mounts at `mountpoint`. */
export const unitName = (mountpoint: string) => `verfs-${escapedPath(mountpoint)}.service`;

/** A word of a command line in a unit: systemd.service(5). */
export function unitWord(word: string): string {
  const escaped = word.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('%', '%%').replaceAll('$', '$$$$');
  return /^[\w@+=:,./%-]+$/.test(escaped) ? escaped : `"${escaped}"`;
}

/** A path in a setting that takes several: specifiers and spaces have to be told from it. */
const settingPath = (path: string) => unitWord(path).replaceAll('$$', '$');

/**
 * What a unit of the system can do without. Nothing among it may give the service file systems of its own (as
 * ProtectSystem, PrivateTmp, ReadOnlyPaths and others do): nobody else would see the mount then.
 */
const systemHardening = [
  '# Nothing here may give the service a mount namespace of its own: nobody else would see the mount.',
  'NoNewPrivileges=yes',
  'CapabilityBoundingSet=CAP_SYS_ADMIN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_CHOWN CAP_FOWNER CAP_FSETID CAP_SYS_RESOURCE CAP_IPC_LOCK CAP_KILL CAP_SYS_PTRACE',
  'DevicePolicy=closed',
  'DeviceAllow=/dev/fuse rw',
  'RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6',
  'RestrictNamespaces=yes',
  'RestrictRealtime=yes',
  'RestrictSUIDSGID=yes',
  'LockPersonality=yes',
  'KeyringMode=private',
  'SystemCallArchitectures=native',
  'SystemCallFilter=@system-service @mount',
  'SystemCallErrorNumber=EPERM',
];

/** In a unit of a user all of the above would forbid the set-id program fusermount3. */
const userHardening = ['# Hardening would forbid fusermount3, a set-id program.'];

/** The text of the unit. */
export function unitText({ scope, mountpoint, volume, config, program }: UnitPlan): string {
  const options = [
    '--volume',
    volume,
    '--foreground',
    '--quiet',
    ...(config === undefined ? [] : ['--config', config]),
  ];
  const command = [...program, 'mount', mountpoint, ...options].map(unitWord).join(' ');
  const above = mountpoint.slice(0, mountpoint.lastIndexOf('/')) || '/';
  return [
    '# Written by `verfs service install`.',
    '[Unit]',
    `Description=VerFS volume ${volume.replaceAll('%', '%%')} at ${mountpoint.replaceAll('%', '%%')}`,
    'Documentation=man:verfs-mount(1) man:verfs(1)',
    ...(scope === 'system' ? [`RequiresMountsFor=${settingPath(volume)} ${settingPath(above)}`] : []),
    'StartLimitIntervalSec=5min',
    'StartLimitBurst=5',
    '',
    '[Service]',
    'Type=notify',
    'NotifyAccess=main',
    `ExecStart=${command}`,
    'ExecReload=/bin/kill -HUP $MAINPID',
    'Restart=on-failure',
    'RestartSec=5s',
    '# A mount that answers nothing for so long is begun anew: everything synced is kept.',
    'WatchdogSec=2min',
    '# Recovery, and the last barrier, take what they take: the daemon asks for more time while it works.',
    'TimeoutStartSec=15min',
    'TimeoutStopSec=90s',
    'KillMode=mixed',
    'UMask=0077',
    'LimitNOFILE=65536',
    '# With an arena for each of its threads, glibc would keep twice the memory that is in use.',
    'Environment=MALLOC_ARENA_MAX=2',
    ...(scope === 'system' ? systemHardening : userHardening),
    '',
    '[Install]',
    `WantedBy=${scope === 'system' ? 'multi-user.target' : 'default.target'}`,
    '',
  ].join('\n');
}
