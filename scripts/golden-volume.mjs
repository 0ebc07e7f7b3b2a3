/**
 * `npm run golden`: makes the golden volumes of the volume format that this version writes, in test/golden, one for each
 * metadata engine. To be run once for each format, by the version that is released with it: docs/FORMAT.md. A volume that
 * is there already is never made again.
 *
 * It has something of everything, and ends with a crash after an fsync: opening it recovers from the log.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  copyFileSync,
  existsSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { prepare } from './prepare.mjs';
import { Hindrance, runScript, step } from './progress.mjs';
import { root } from './stamp.mjs';

const directory = join(root, 'test/golden');
const engines = ['surrealkv', 'fjall'];
const password = 'golden password';

const program = join(root, 'packages/cli/bin/verfs.js');

function run(command, args, input) {
  const said = spawnSync(command, args, { encoding: 'utf8', input });
  if (said.status !== 0) {
    throw new Hindrance(`${command} ${args.join(' ')}: ${said.stderr || said.stdout || said.error}`);
  }
  return said.stdout;
}

const verfs = (args, input) => JSON.parse(run(process.execPath, [program, ...args, '--json'], input));

/** Bytes that no compressor makes smaller, the same each time. */
function noise(name, length) {
  const blocks = Array.from({ length: Math.ceil(length / 32) }, (_, index) =>
    createHash('sha256').update(`${name} ${index}`).digest(),
  );
  return Buffer.concat(blocks).subarray(0, length);
}

function fill(mount) {
  const at = (...names) => join(mount, ...names);
  mkdirSync(at('directory', 'deep'), { recursive: true, mode: 0o750 });
  writeFileSync(at('small'), 'inline in its metadata\n', { mode: 0o640 });
  writeFileSync(at('directory', 'noise'), noise('noise', 150_000));
  writeFileSync(at('directory', 'deep', 'text'), 'the same line, again and again\n'.repeat(10_000));
  copyFileSync(at('directory', 'noise'), at('directory', 'deep', 'duplicate'));
  writeFileSync(at('sparse'), 'begin');
  truncateSync(at('sparse'), 5_000_000);
  symlinkSync('directory/noise', at('link'));
  linkSync(at('small'), at('hard link'));
  writeFileSync(at('näme\n'), 'a name with a line feed');
  utimesSync(at('directory', 'noise'), 1_600_000_000, 1_600_000_000);
  run('setfattr', ['-n', 'user.note', '-v', 'an attribute', at('small')]);
  verfs(['snapshot', 'create', 'first', '--note', 'before the change', '--volume', mount]);
  writeFileSync(at('directory', 'deep', 'text'), 'changed after the snapshot\n');
  rmSync(at('directory', 'deep', 'duplicate'));
}

function fillVault(mount, keys) {
  const secret = ['--password-stdin'];
  const { keyFile } = verfs(['crypt', '-c', '--key-directory', keys, ...secret, mount], password);
  verfs(['crypt', '-u', '-k', keyFile, ...secret, mount], password);
  writeFileSync(join(mount, '.vault', 'secret'), noise('secret', 60_000));
  verfs(['sync', mount]);
  verfs(['crypt', '-l', mount]);
}

/** What ends with the kill is in the log only. */
function crash(mount, pid) {
  const file = openSync(join(mount, 'fsynced'), 'w');
  writeSync(file, 'fsynced before the crash\n');
  fsyncSync(file);
  closeSync(file);
  process.kill(pid, 'SIGKILL');
  verfs(['unmount', mount]);
}

function make(engine, format) {
  const work = mkdtempSync(join(tmpdir(), 'verfs-golden-'));
  const [volume, mount] = [join(work, 'volume'), join(work, 'mnt')];
  mkdirSync(mount);
  try {
    verfs(['volume', 'create', volume, '--meta-engine', engine]);
    verfs(['mount', mount, '--volume', volume]);
    fill(mount);
    fillVault(mount, work);
    verfs(['policy', 'set', '--schedule', 'daily', '--keep-daily', '7', '--volume', mount]);
    // Closing it writes the tables of its metadata and seals its pack.
    verfs(['unmount', mount]);
    const { pid } = verfs(['mount', mount, '--volume', volume]);
    writeFileSync(join(mount, 'second'), noise('second', 50_000));
    verfs(['sync', mount]);
    crash(mount, pid);
    const archive = join(directory, `format-${format}-${engine}.tar.gz`);
    mkdirSync(directory, { recursive: true });
    run('tar', [
      '--sparse',
      '--sort=name',
      '--owner=0',
      '--group=0',
      '-C',
      work,
      '-czf',
      archive,
      'volume',
      'verfsnext.vault.key',
    ]);
    return archive;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

await runScript(async () => {
  await prepare();
  const source = readFileSync(join(root, 'crates/format/src/superblock.rs'), 'utf8');
  const format = /FORMAT_VERSION: u32 = (\d+);/.exec(source)[1];
  for (const engine of engines) {
    await step(`format ${format}, ${engine}`, async () => {
      if (existsSync(join(directory, `format-${format}-${engine}.tar.gz`))) {
        return 'is there, and stays as it is';
      }
      return make(engine, format);
    });
  }
});
