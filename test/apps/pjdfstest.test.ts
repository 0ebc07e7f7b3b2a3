import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { run, shell } from '../harness/command.ts';
import { mountForAll } from '../harness/others.ts';
import { Sandbox } from '../harness/sandbox.ts';
import { unlockNewVault } from '../harness/vault.ts';

const minutes = 60_000;

/** Fewer would mean that the suite was not run whole. */
const leastTests = 390;

/** More would mean that the suite found features missing. */
const skippedMax = 40;

/** The suite asks glibc for the most links of a file, and glibc knows only some file systems: FUSE is none of them. */
const mayBeSkipped = { 'link::link_count_max': 'Cannot get value for LINK_MAX: filesystem limit is unknown' };

let sandbox: Sandbox;

beforeEach(() => {
  sandbox = new Sandbox();
});

afterEach(() => sandbox[Symbol.asyncDispose]());

interface Verdict {
  readonly verdict: 'ok' | 'FAILED' | 'skipped';
  /** What the suite said of it. */
  readonly reason: string;
}

/** What `pjdfstest` printed: a line for each test, and below it why it failed or was skipped. */
function verdictsIn(output: string): Map<string, Verdict> {
  const verdicts = new Map<string, Verdict>();
  const lines = output.split('\n');
  for (const [at, line] of lines.entries()) {
    const [, name, verdict] = line.match(/^(\S+::\S+) +(ok|FAILED|skipped)$/) ?? [];
    if (name !== undefined) {
      const reason = verdict === 'ok' ? '' : (lines[at + 1] ?? '').trim();
      verdicts.set(name, { verdict: verdict as Verdict['verdict'], reason });
    }
  }
  return verdicts;
}

/** Any two users that have groups of their own. */
function someUsers(): string[][] {
  const fields = (file: string) =>
    readFileSync(file, 'utf8')
      .split('\n')
      .map((line) => line.split(':'));
  const groups = new Map(fields('/etc/group').map(([name, , gid]) => [gid, name]));
  return fields('/etc/passwd')
    .filter(([, , uid, gid]) => uid !== '0' && groups.has(gid))
    .slice(0, 2)
    .map(([user, , , gid]) => [user as string, groups.get(gid) as string]);
}

/** All that the suite can be told to test. `allowRemount`: whether it may mount what it tests anew. */
function configure(allowRemount: boolean): string {
  const file = sandbox.path(`pjdfstest-${allowRemount}.toml`);
  writeFileSync(
    file,
    `[features]
     chflags = {}
     nfsv4_acls = {}
     posix_fallocate = {}
     rename_ctime = {}
     stat_st_birthtime = {}
     chflags_sf_snapshot = {}
     utime_now = {}
     utimensat = {}
     [settings]
     naptime = 0.02
     allow_remount = ${allowRemount}
     [dummy_auth]
     entries = ${JSON.stringify(someUsers())}`,
  );
  return file;
}

/**
 * Runs the suite in `directory`. Tests that mount it anew read-only run in a process of their own: another test of the
 * suite keeps an unlinked file open, and the kernel mounts nothing read-only in which there is one.
 */
async function runSuite(directory: string): Promise<Map<string, Verdict>> {
  // For a mount of a program `mount` would ask that program to remount; the suite wants the kernel to.
  const bin = sandbox.path('bin');
  mkdirSync(bin, { recursive: true });
  writeFileSync(`${bin}/mount`, `#!/bin/sh\nPATH='${sandbox.env['PATH']}'\nexec mount --internal-only "$@"\n`, {
    mode: 0o755,
  });
  const env = { ...sandbox.env, PATH: `${bin}:${sandbox.env['PATH']}`, NO_COLOR: '1' };
  const options = { env, cwd: sandbox.root, timeoutMs: 4 * minutes };
  // Bound, for this process only, to where the paths are short: those of sockets may have 107 bytes.
  const short = 'mount --bind "$1" /mnt; shift; exec "$@"';
  const inShort = (...args: string[]) =>
    run('unshare', ['--mount', 'sh', '-ec', short, 'sh', directory, 'pjdfstest', '--path', '/mnt', ...args], options);
  const common = ['--secondary-fs', sandbox.path('other')];
  const most = await inShort('--configuration-file', configure(false), ...common);
  const remounting = await inShort('--configuration-file', configure(true), ...common, 'erofs');
  const verdicts = new Map([...verdictsIn(most.stdout), ...verdictsIn(remounting.stdout)]);
  if (verdicts.size < leastTests) {
    throw new Error(`only ${verdicts.size} tests were run\n${most.stdout}${most.stderr}${remounting.stderr}`);
  }
  return verdicts;
}

const count = (verdicts: Map<string, Verdict>, wanted: Verdict['verdict']) =>
  [...verdicts.values()].filter(({ verdict }) => verdict === wanted).length;

const counted = (verdicts: Map<string, Verdict>) =>
  `${count(verdicts, 'ok')} passed, ${count(verdicts, 'FAILED')} failed, ${count(verdicts, 'skipped')} skipped`;

test(
  'a mount passes every test of pjdfstest that ext4 passes',
  async () => {
    await mountForAll(sandbox);
    await shell(
      'mkdir other ext4; mount -t tmpfs tmpfs other; truncate -s 1G ext4.img; mkfs.ext4 -q ext4.img; mount -o loop ext4.img ext4',
      { cwd: sandbox.root, env: sandbox.env },
    );
    const ext4 = await runSuite(sandbox.path('ext4'));
    const verfs = await runSuite(sandbox.mountpoint);
    process.stdout.write(`\nremark: ext4 ${counted(ext4)}; VerFS ${counted(verfs)}\n`);

    expect(count(ext4, 'ok')).toBeGreaterThanOrEqual(leastTests);
    const worse = [...ext4].filter(([name, { verdict }]) => verdict === 'ok' && verfs.get(name)?.verdict !== 'ok');
    const told = Object.fromEntries(worse.map(([name]) => [name, verfs.get(name)?.reason ?? 'was not run']));
    expect(told).toEqual(told['link::link_count_max'] === undefined ? {} : mayBeSkipped);
  },
  10 * minutes,
);

test(
  'an unlocked vault passes every test of pjdfstest',
  async () => {
    await mountForAll(sandbox);
    await shell('mkdir other; mount -t tmpfs tmpfs other', { cwd: sandbox.root, env: sandbox.env });
    await unlockNewVault(sandbox);
    await shell('chmod 755 .vault', { cwd: sandbox.mountpoint });
    const verdicts = await runSuite(sandbox.inMount('.vault'));
    process.stdout.write(`\nremark: vault ${counted(verdicts)}\n`);
    const failed = [...verdicts].filter(([, { verdict }]) => verdict === 'FAILED');
    expect(Object.fromEntries(failed)).toEqual({});
    const skipped = [...verdicts].filter(([, { verdict }]) => verdict === 'skipped').map(([name]) => name);
    expect(skipped.filter((name) => name !== 'link::link_count_max').length).toBeLessThanOrEqual(skippedMax);
  },
  5 * minutes,
);
