/**
 * Every command: its words, what it is for, and where it is. Parsing, help, completion and man pages come from here.
 * Never here: what a command does. Each is loaded when it is called, so that all start quickly.
 */
import type { Argv } from 'yargs';
import type { CommonArguments } from './context.ts';

/** What is loaded of a command when it is called, or described. */
export interface LoadedCommand {
  readonly builder: (yargs: Argv<CommonArguments>) => Argv<never> | Promise<Argv<never>>;
  readonly handler: (args: never) => Promise<void>;
}

interface Entry {
  /** Its name and its positional arguments, as yargs has them: `<required>`, `[optional]`, `<many..>`. */
  readonly command: string;
  readonly describe: string;
}

/** A command that does something. */
export interface Command extends Entry {
  load(): Promise<LoadedCommand>;
}

/** A command that only has others below it. */
export interface CommandGroup extends Entry {
  readonly commands: readonly Command[];
  readonly examples: readonly (readonly [command: string, what: string])[];
}

const isGroup = (entry: Command | CommandGroup): entry is CommandGroup => 'commands' in entry;

const entry = <B, H>(builder: B, handler: H) => ({ builder, handler }) as unknown as LoadedCommand;

const snapshot = () => import('./commands/snapshot.ts');
const streams = () => import('./commands/streams.ts');
const policy = () => import('./commands/policy.ts');
const config = () => import('./commands/config.ts');
const service = () => import('./commands/service.ts');
const volume = () => import('./commands/volume.ts');
const transfer = () => import('./commands/transfer.ts');
const freeze = () => import('./commands/freeze.ts');

/** The commands, in the order of the help. */
export const commands: readonly (Command | CommandGroup)[] = [
  {
    command: 'mount [mountpoint]',
    describe: 'Mount a volume',
    load: () => import('./commands/mount.ts').then((m) => entry(m.mountBuilder, m.mount)),
  },
  {
    command: 'unmount [path]',
    describe: 'Make everything durable and unmount',
    load: () => import('./commands/unmount.ts').then((m) => entry(m.unmountBuilder, m.unmount)),
  },
  {
    command: 'status [path]',
    describe: 'Tell whether and where a volume is mounted',
    load: () => import('./commands/status.ts').then((m) => entry(m.statusBuilder, m.status)),
  },
  {
    command: 'stats [path]',
    describe: 'Show sizes, ratios, caches and latencies',
    load: () => import('./commands/stats.ts').then((m) => entry(m.statsBuilder, m.stats)),
  },
  {
    command: 'du [directory]',
    describe: 'Show what a part of a volume takes: logical, unique, shared, stored',
    load: () => import('./commands/du.ts').then((m) => entry(m.duBuilder, m.du)),
  },
  {
    command: 'dedup-report [directory]',
    describe: 'Show what each entry of a directory takes and shares, also as a page with plots',
    load: () => import('./commands/dedup-report.ts').then((m) => entry(m.reportBuilder, m.dedupReport)),
  },
  {
    command: 'top [path]',
    describe: 'Show what a mounted volume does, as it does it',
    load: () => import('./commands/top.ts').then((m) => entry(m.topBuilder, m.top)),
  },
  {
    command: 'import <source> [target]',
    describe: 'Copy a directory of this machine into a volume',
    load: () => transfer().then((m) => entry(m.importBuilder, m.importTree)),
  },
  {
    command: 'export <source> <target>',
    describe: 'Copy out of a volume, or of one of its snapshots',
    load: () => transfer().then((m) => entry(m.exportBuilder, m.exportTree)),
  },
  {
    command: 'sync [path]',
    describe: 'Make everything durable that was written',
    load: () => import('./commands/sync.ts').then((m) => entry(m.syncBuilder, m.sync)),
  },
  {
    command: 'gc [path]',
    describe: 'Give the room of deleted data back to the disk',
    load: () => import('./commands/gc.ts').then((m) => entry(m.gcBuilder, m.gc)),
  },
  {
    command: 'scrub [path]',
    describe: 'Check that everything stored is what was written',
    load: () => import('./commands/scrub.ts').then((m) => entry(m.scrubBuilder, m.scrub)),
  },
  {
    command: 'fsck',
    describe: 'Check a volume that is not mounted, and mend it',
    load: () => import('./commands/fsck.ts').then((m) => entry(m.fsckBuilder, m.fsck)),
  },
  {
    command: 'doctor [path]',
    describe: 'Tell what is wrong with this machine or a volume',
    load: () => import('./commands/doctor.ts').then((m) => entry(m.doctorBuilder, m.doctor)),
  },
  {
    command: 'crypt [path]',
    describe: 'Make, unlock and lock the vault, an encrypted folder',
    load: () => import('./commands/crypt.ts').then((m) => entry(m.cryptBuilder, m.crypt)),
  },
  {
    command: 'volume',
    describe: 'Make volumes and look at them',
    commands: [
      {
        command: 'create [directory]',
        describe: 'Make a volume',
        load: () => volume().then((m) => entry(m.createBuilder, m.volumeCreate)),
      },
      {
        command: 'info [path]',
        describe: 'Show what the superblock of a volume says',
        load: () => volume().then((m) => entry(m.infoBuilder, m.volumeInfo)),
      },
      {
        command: 'freeze [path]',
        describe: 'Hold a mounted volume still, so that its directory can be copied',
        load: () => freeze().then((m) => entry(m.freezeBuilder, m.volumeFreeze)),
      },
      {
        command: 'thaw [path]',
        describe: 'Let it go on',
        load: () => freeze().then((m) => entry(m.thawBuilder, m.volumeThaw)),
      },
    ],
    examples: [
      ['volume create /srv/a', 'makes a volume'],
      ['volume info --volume /srv/a', 'what it is'],
    ],
  },
  {
    command: 'snapshot',
    describe: 'Take snapshots of a volume, compare them, and go back to them',
    commands: [
      {
        command: 'create <name>',
        describe: 'Take a snapshot',
        load: () => snapshot().then((m) => entry(m.createBuilder, m.snapshotCreate)),
      },
      {
        command: 'list',
        describe: 'List the snapshots',
        load: () => snapshot().then((m) => entry(m.listBuilder, m.snapshotList)),
      },
      {
        command: 'delete <names..>',
        describe: 'Delete snapshots',
        load: () => snapshot().then((m) => entry(m.deleteBuilder, m.snapshotDelete)),
      },
      {
        command: 'diff <from> [to]',
        describe: 'Show what changed',
        load: () => snapshot().then((m) => entry(m.diffBuilder, m.snapshotDiff)),
      },
      {
        command: 'rollback <name>',
        describe: 'Make the volume what it was',
        load: () => snapshot().then((m) => entry(m.rollbackBuilder, m.snapshotRollback)),
      },
      {
        command: 'clone <name> <directory>',
        describe: 'Make a copy that can be written',
        load: () => snapshot().then((m) => entry(m.cloneBuilder, m.snapshotClone)),
      },
      {
        command: 'restore <name> <paths..>',
        describe: 'Put files back',
        load: () => snapshot().then((m) => entry(m.restoreBuilder, m.snapshotRestore)),
      },
      {
        command: 'hold <names..>',
        describe: 'Keep snapshots from being deleted',
        load: () => snapshot().then((m) => entry(m.holdBuilder, m.snapshotHold)),
      },
      {
        command: 'release <names..>',
        describe: 'End a hold',
        load: () => snapshot().then((m) => entry(m.holdBuilder, m.snapshotRelease)),
      },
    ],
    examples: [
      ['snapshot create monday', 'takes a snapshot'],
      ['snapshot diff monday', 'what changed since'],
    ],
  },
  {
    command: 'send <snapshot> [path]',
    describe: 'Write a snapshot as a stream to standard output',
    load: () => streams().then((m) => entry(m.sendBuilder, m.send)),
  },
  {
    command: 'receive [path]',
    describe: 'Make a volume what a stream from standard input says',
    load: () => streams().then((m) => entry(m.receiveBuilder, m.receive)),
  },
  {
    command: 'policy',
    describe: 'Have snapshots taken and pruned by themselves',
    commands: [
      {
        command: 'show',
        describe: 'Show the policy of a volume',
        load: () => policy().then((m) => entry(m.showBuilder, m.policyShow)),
      },
      {
        command: 'set',
        describe: 'Change it',
        load: () => policy().then((m) => entry(m.setBuilder, m.policySet)),
      },
      {
        command: 'run',
        describe: 'Take a snapshot when one is due, and prune',
        load: () => policy().then((m) => entry(m.runBuilder, m.policyRun)),
      },
    ],
    examples: [
      ['policy set --schedule hourly --keep-hourly 24', 'takes one each hour, and keeps 24'],
      ['policy run --dry-run', 'what would be done now'],
    ],
  },
  {
    command: 'config',
    describe: 'Show settings, and change those of a mounted volume',
    commands: [
      {
        command: 'show [key]',
        describe: 'Show the settings as the next mount has them',
        load: () => config().then((m) => entry(m.showBuilder, m.configShow)),
      },
      {
        command: 'set <key> <value>',
        describe: 'Change a setting of a mounted volume, until it is unmounted',
        load: () => config().then((m) => entry(m.setBuilder, m.configSet)),
      },
      {
        command: 'reload',
        describe: 'Have a mounted volume take its configuration file again',
        load: () => config().then((m) => entry(m.reloadBuilder, m.configReload)),
      },
    ],
    examples: [
      ['config show memory', 'what the caches may have'],
      ['config set daemon.log_level debug', 'logs more from now on'],
    ],
  },
  {
    command: 'service',
    describe: 'Have a volume mounted by the system',
    commands: [
      {
        command: 'install [mountpoint]',
        describe: 'Mount a volume from now on, by systemd',
        load: () => service().then((m) => entry(m.installBuilder, m.serviceInstall)),
      },
      {
        command: 'remove [mountpoint]',
        describe: 'Unmount it, and mount it no more',
        load: () => service().then((m) => entry(m.removeBuilder, m.serviceRemove)),
      },
    ],
    examples: [
      ['service install ~/verfs', 'mounts the default volume with each session'],
      ['service remove ~/verfs', 'ends that'],
    ],
  },
  {
    command: 'completion <shell>',
    describe: 'Print what makes a shell complete the words of verfs',
    load: () => import('./commands/completion.ts').then((m) => entry(m.completionBuilder, m.completion)),
  },
];

/** Options of every command. */
export const commonOptions = {
  json: { type: 'boolean', default: false, global: true, describe: 'Results and errors as JSON' },
  config: { type: 'string', requiresArg: true, global: true, describe: 'Configuration file' },
  quiet: { type: 'boolean', global: true, describe: 'Do not tell how far it is' },
} as const;

/** `create` of `create [directory]`. */
export const nameOf = ({ command }: Entry): string => command.split(' ')[0] ?? command;

/** `a, b or c` of the names of `entries`. */
function listed(entries: readonly Entry[]): string {
  const names = entries.map(nameOf);
  return `${names.slice(0, -1).join(', ')} or ${names.at(-1)}`;
}

/** Adds `entries` to `yargs`. `above` is the command that they belong to. */
export function addCommands<T extends CommonArguments>(
  yargs: Argv<T>,
  entries: readonly (Command | CommandGroup)[] = commands,
  above = '',
): Argv<T> {
  let builder = yargs;
  for (const one of entries) {
    if (isGroup(one)) {
      builder = builder.command(one.command, one.describe, (group) => {
        const added = addCommands(group as unknown as Argv<CommonArguments>, one.commands, `${nameOf(one)} `);
        return one.examples.reduce((all, [command, what]) => all.example(`$0 ${command}`, what), added);
      }) as unknown as Argv<T>;
    } else {
      builder = builder.command(
        one.command,
        one.describe,
        async (command) => (await one.load()).builder(command as unknown as Argv<CommonArguments>),
        async (args) => (await one.load()).handler(args as never),
      ) as unknown as Argv<T>;
    }
  }
  const whose = above === '' ? 'Name a command' : `Name a command of \`verfs ${above.trim()}\``;
  return builder.demandCommand(1, `${whose}: ${listed(entries)}`).recommendCommands();
}

/** Adds the options of every command to `yargs`. */
export const addCommonOptions = (yargs: Argv): Argv<CommonArguments> => yargs.options(commonOptions);
