import { chmodSync, mkdirSync } from 'node:fs';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { errorTable } from '@verfs/errors';
import { giveToUser, shellAsUser } from '../harness/privileges.ts';
import { Sandbox } from '../harness/sandbox.ts';

let sandbox: Sandbox;
let env: Record<string, string>;

beforeEach(() => {
  sandbox = new Sandbox();
  chmodSync(sandbox.root, 0o755);
  const [home, runtime] = [sandbox.path('user'), sandbox.path('user', 'run')];
  mkdirSync(runtime, { recursive: true, mode: 0o700 });
  mkdirSync(sandbox.path('user', 'mnt'));
  for (const path of [home, runtime, sandbox.path('user', 'mnt')]) {
    giveToUser(path);
  }
  env = { ...sandbox.env, HOME: home, XDG_RUNTIME_DIR: runtime, TMPDIR: runtime };
});

afterEach(() => sandbox[Symbol.asyncDispose]());

test('an ordinary user mounts, works, loses the daemon, mounts again and unmounts, with fusermount3', async () => {
  const script = `set -e; cd "$HOME"
    verfs mount mnt
    echo one > mnt/file; sync -d mnt/file; stat -c %u mnt/file
    pid=$(verfs status mnt --json | sed 's/.*"pid":\\([0-9]*\\).*/\\1/')
    kill -9 "$pid"; while [ -d "/proc/$pid" ]; do sleep 0.05; done
    verfs status mnt || echo "code $?"
    verfs mount mnt; cat mnt/file; echo two > mnt/file; verfs unmount mnt
    verfs mount mnt; cat mnt/file
    pid=$(verfs status --json | sed 's/.*"pid":\\([0-9]*\\).*/\\1/'); kill -9 "$pid"
    while [ -d "/proc/$pid" ]; do sleep 0.05; done
    verfs unmount; ls -A mnt
    echo end`;
  const outcome = await shellAsUser(script, { env });
  expect(outcome.stderr).toMatch(/^verfs: The daemon of [^\n]+ does not answer\.[^\n]+\n$/);
  expect(outcome.stdout).toContain(`code ${errorTable.VERFS_E_DAEMON_DIED.exitCode}\n`);
  expect(outcome.stdout.replaceAll(/^(Made|Mounted|Unmount it|Unmounted|Detached|code) .*\n/gm, '')).toMatch(
    /^\d+\none\ntwo\nend\n$/,
  );
  expect(outcome.code).toBe(0);
});

test('an ordinary user has his vault behind a symlink, and it locks as well', async () => {
  const script = `set -e; cd "$HOME"
    crypt() { echo 'a password' | verfs crypt mnt --password-stdin "$@"; }
    vaults() { grep -c fuse.verfs-vault /proc/self/mountinfo || true; }
    verfs mount mnt
    crypt -c; ls -A mnt; crypt -u; ls -A mnt; test -L mnt/.vault; stat -L -c '%a %u' mnt/.vault
    mkdir mnt/.vault/d; echo one > mnt/.vault/d/letter; sync mnt/.vault/d/letter
    for name in d d/letter; do mv mnt/.vault mnt/elsewhere || echo kept; ln mnt/.vault/d/letter mnt/linked || echo kept; done
    rm mnt/.vault || echo kept
    verfs status mnt/.vault/d --json | grep -o '"vault":"[a-z]*"'
    exec 3< mnt/.vault/d/letter; cd mnt/.vault
    cd "$HOME"; verfs crypt mnt -l
    cat <&3 || echo cut; exec 3<&-; ls -A mnt; cat mnt/.vault/d/letter || echo absent; vaults
    ln -s /tmp mnt/.vault || echo refused
    crypt -u; cat mnt/.vault/d/letter
    pid=$(verfs status mnt --json | sed 's/.*"pid":\\([0-9]*\\).*/\\1/'); kill -9 "$pid"
    while [ -d "/proc/$pid" ]; do sleep 0.05; done
    verfs mount mnt; vaults; ls -A mnt; crypt -u; cat mnt/.vault/d/letter
    verfs unmount mnt; vaults
    echo end`;
  const outcome = await shellAsUser(script, { env, timeoutMs: 120_000 });
  const told = /^(Made|Mounted|Unmount it|Unmounted|Detached|The vault|Without the key) .*\n/gm;
  expect(outcome.stdout.replaceAll(told, '').split('\n')).toEqual([
    ...['.vault', expect.stringMatching(/^700 \d+$/)],
    ...Array(5).fill('kept'),
    ...['"vault":"unlocked"', 'cut', 'absent', '0', 'refused', 'one', '0', 'one', '0', 'end', ''],
  ]);
  expect(outcome.code).toBe(0);
});

// Only root can be the other user.
(process.getuid?.() === 0 ? test : test.skip)(
  "another user's mount is told as such, whatever is asked of it",
  async () => {
    await sandbox.mount(['--allow-other']);
    for (const command of ['status', 'stats', 'sync', 'unmount']) {
      const outcome = await shellAsUser(`verfs ${command} ${sandbox.mountpoint}`, { env });
      expect(outcome).toMatchObject({
        code: errorTable.VERFS_E_PERMISSION.exitCode,
        stderr: expect.stringContaining("another user's daemon serves"),
      });
    }
  },
);
