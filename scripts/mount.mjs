/**
 * `npm run mount -- [DIRECTORY] [OPTIONS OF verfs mount]`: from a fresh clone to a mounted volume. Without a directory it is
 * mounted where `mount.point` of the configuration says: at ~/verfs, if nothing is said.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, rmdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { prepare } from './prepare.mjs';
import { Hindrance, runScript } from './progress.mjs';
import { root } from './stamp.mjs';

/** npm runs scripts in the root of the package; relative paths are meant from where the user is. */
const userDirectory = process.env.INIT_CWD ?? '.';
/** Options that may stand before the directory: no value follows them. */
const flags = ['-f', '--foreground', '--allow-other', '--json'];

const words = process.argv.slice(2);
const at = words.findIndex((word) => !flags.includes(word));
const named = at < 0 || words[at].startsWith('-') ? undefined : words[at];
const options = named === undefined ? words : words.toSpliced(at, 1);
const isForeground = options.includes('-f') || options.includes('--foreground');

/** The configuration file that the options name, if they do. */
function configFile() {
  const index = options.findLastIndex((word) => word === '--config' || word.startsWith('--config='));
  const file = options[index]?.includes('=') ? options[index].slice('--config='.length) : options[index + 1];
  return index < 0 || file === undefined ? undefined : resolve(userDirectory, file);
}

/** Where the configuration has volumes mounted. */
async function configured() {
  const { loadConfig } = await import('../packages/config/dist/index.js');
  try {
    return loadConfig(configFile()).config['mount.point'];
  } catch (error) {
    throw new Hindrance(`${error.message} Or name a directory: npm run mount -- DIRECTORY`);
  }
}

/** Runs `verfs` where the user is, and waits for its end also when a signal comes: that is left to it. */
function verfs(args) {
  const program = join(root, 'packages/cli/bin/verfs.js');
  const child = spawn(process.execPath, [program, ...args], { cwd: userDirectory, stdio: 'inherit' });
  // A terminal sends Ctrl+C to both.
  process.on('SIGINT', () => undefined);
  process.on('SIGTERM', () => child.kill('SIGTERM'));
  return new Promise((done, failed) => {
    child.once('error', failed);
    child.once('exit', (code) => done(code ?? 1));
  });
}

await runScript(async () => {
  await prepare();
  const { shellQuoted } = await import('../packages/errors/dist/index.js');
  const mountpoint = named === undefined ? await configured() : resolve(userDirectory, named);
  const made = existsSync(mountpoint) ? undefined : mkdirSync(mountpoint, { recursive: true });
  if (made !== undefined) {
    process.stdout.write(`Made the directory ${mountpoint}.\n`);
  }
  const status = await verfs(['mount', mountpoint, ...options]);
  process.exitCode = status;
  if (status === 0 && !isForeground) {
    const example = `npx verfs unmount ${shellQuoted(mountpoint)}`;
    process.stdout.write(`Here in ${root} the command is: npx verfs …, for example: ${example}\n`);
  } else if (status !== 0 && made !== undefined) {
    for (let directory = mountpoint; directory.startsWith(made); directory = dirname(directory)) {
      rmdirSync(directory);
    }
  }
});
