import { configKeyNames, configKeys, liveKeyNames } from './keys.ts';

/** The text of docs/CONFIG.md. */
export function configMarkdown(): string {
  const rows = configKeyNames.map((name) => {
    const { type, defaultText, help } = configKeys[name];
    const mark = (liveKeyNames as readonly string[]).includes(name) ? ' **Live.**' : '';
    return `| \`${name}\` | ${type} | \`${defaultText}\` | ${help}${mark} |`;
  });
  return [
    '# Configuration',
    '',
    'Generated from `packages/config/src/keys.ts` by `npm run generate`; a test compares them.',
    '',
    'The file is TOML: `$XDG_CONFIG_HOME/verfs/config.toml` (`~/.config/verfs/config.toml`); for root',
    '`/etc/verfs/config.toml` when it is there. `--config FILE` names another. Options of the command line win over the',
    'file. An unknown key, a wrong type and a missing unit are errors, and nothing is done.',
    '',
    'Sizes are texts with a unit: `B`, `KiB`, `MiB`, `GiB`, `TiB` or for short `K`, `M`, `G`, `T`, and decimal `kB`, `MB`,',
    '`GB`, `TB`. Durations have `us`, `ms`, `s`, `min` or `m`, `h`, `d` or `w`. Paths may begin with `~/`; `~/.local/share` and `~/.local/state` follow',
    '`$XDG_DATA_HOME` and `$XDG_STATE_HOME`. Settings apply from the next mount on; `create.*` only to new volumes. Those',
    'marked as live are taken by a daemon that runs when it gets SIGHUP (or `verfs config reload`), and `verfs config set`',
    'changes them until it ends. `verfs config show` shows all as they are.',
    '',
    '```toml',
    '[volume]',
    'path = "/srv/verfs"',
    '',
    '[memory]',
    'chunk_cache = "256MiB"',
    '',
    '[group]',
    'interval = "1s"',
    '```',
    '',
    '| key | type | default | meaning |',
    '|---|---|---|---|',
    ...rows,
    '',
  ].join('\n');
}
