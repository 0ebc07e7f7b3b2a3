/** Random reads and writes of every kind on a file give what was written: with fsx and fio, which know what must be there. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { run } from '../harness/command.ts';
import { Sandbox } from '../harness/sandbox.ts';

const minutes = 60_000;

let sandbox: Sandbox;

beforeEach(async () => {
  sandbox = new Sandbox();
  await sandbox.mount();
});

afterEach(() => sandbox[Symbol.asyncDispose]());

const common = 'close_open = 2\nread = 10\nwrite = 10\nmapread = 10\nmapwrite = 10\ninvalidate = 1\ntruncate = 4\n';
const weights = {
  'reads, writes, maps, truncates and syncs': `${common}fsync = 1\nfdatasync = 1\nsendfile = 5\nposix_fadvise = 2\n`,
  'punches holes, reserves space and copies ranges': `${common}fsync = 1\npunch_hole = 10\nposix_fallocate = 5\ncopy_file_range = 10\n`,
};

/** Runs fsx with a seed of its own on a file of the mount. */
async function fsx(config: string, operations: number, name: string) {
  for (let left = 5; ; left -= 1) {
    const seed = String(Math.floor(Math.random() * 2 ** 32));
    const args = ['-f', config, '-N', String(operations), '-S', seed, '-P', sandbox.path('artifacts')];
    const { code, stderr } = await run('fsx', [...args, sandbox.inMount(`${name}-${left}`)], {
      env: sandbox.env,
      timeoutMs: 2 * minutes,
    });
    // With few seeds it reserves an empty range, which is EINVAL on every file system, and takes that for this.
    if (left === 0 || !stderr.includes('does not support posix_fallocate')) {
      return { seed, code, stderr };
    }
  }
}

test.each(Object.entries(weights))(
  'fsx %s',
  async (_, weighted) => {
    const config = sandbox.path('fsx.toml');
    mkdirSync(sandbox.path('artifacts'));
    // Lengths: one that stays in a few chunks, and one that spans segments of the file.
    for (const [length, most, operations] of [
      [262_144, 65_536, 4000],
      [12_000_000, 400_000, 600],
    ]) {
      writeFileSync(config, `flen = ${length}\n[opsize]\nmax = ${most}\n[weights]\n${weighted}`);
      const { seed, code, stderr } = await fsx(config, Number(operations), `file-${length}`);
      expect({ seed, length, code, stderr: code === 0 ? '' : stderr.slice(-3000) }).toEqual({
        seed,
        length,
        code: 0,
        stderr: '',
      });
    }
  },
  5 * minutes,
);

test.each([
  ['with pread and pwrite', ['--ioengine=psync', '--fsync=200']],
  ['past the page cache, many at a time', ['--ioengine=libaio', '--direct=1', '--iodepth=16']],
  ['in shared maps', ['--ioengine=mmap', '--fsync=50']],
])(
  'fio verifies what it wrote %s, also after a remount',
  async (_, engine) => {
    const job = [
      ...[
        '--name=job',
        `--directory=${sandbox.mountpoint}`,
        '--numjobs=2',
        '--size=12m',
        '--randseed=7',
        '--group_reporting',
      ],
      ...['--rw=randwrite', '--bsrange=4k-64k', '--bs_unaligned=0', '--verify=sha256', '--verify_fatal=1'],
      ...['--verify_state_save=0', '--output-format=json', ...engine],
    ];
    const fio = async (more: readonly string[]) => {
      const options = { cwd: sandbox.root, env: sandbox.env, timeoutMs: 2 * minutes };
      const { code, stdout, stderr } = await run('fio', [...job, ...more], options);
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      const [{ error, read }] = JSON.parse(stdout.slice(stdout.indexOf('{'))).jobs;
      return { error, read: read.io_bytes };
    };
    const size = 2 * 12 * 1024 * 1024;
    expect(await fio(['--do_verify=1'])).toEqual({ error: 0, read: size });
    await sandbox.unmount();
    await sandbox.mount();
    expect(await fio(['--verify_only=1'])).toEqual({ error: 0, read: size });
  },
  5 * minutes,
);
