/** `npm run mount -- [DIRECTORY] [OPTIONS OF verfs mount]`: from a fresh clone to a mounted volume. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, rmdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { prepare } from './prepare.mjs';
import { runScript } from './progress.mjs';
import { root } from './stamp.mjs';

const [first, ...others] = process.argv.slice(2);
const isNamed = first !== undefined && !first.startsWith('-');
// npm runs scripts in the root of the package; relative paths are meant from where the user is.
const mountpoint = isNamed ? resolve(process.env.INIT_CWD ?? '.', first) : join(homedir(), 'verfs');
const options = isNamed || first === undefined ? others : [first, ...others];

await runScript(async () => {
  await prepare();
  const made = existsSync(mountpoint) ? undefined : mkdirSync(mountpoint, { recursive: true });
  if (made !== undefined) {
    process.stdout.write(`Made the directory ${mountpoint}.\n`);
  }
  const program = join(root, 'packages/cli/bin/verfs.js');
  const { status } = spawnSync(process.execPath, [program, 'mount', mountpoint, ...options], { stdio: 'inherit' });
  process.exitCode = status ?? 1;
  if (status === 0) {
    process.stdout.write(`Here in ${root} the command is: npx verfs …, for example: npx verfs unmount ${mountpoint}\n`);
  } else if (made !== undefined) {
    for (let directory = mountpoint; directory.startsWith(made); directory = dirname(directory)) {
      rmdirSync(directory);
    }
  }
});
