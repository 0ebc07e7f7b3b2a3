/** The vault as a new user meets it: `verfs crypt`. */
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { errorTable } from '@verfs/errors';
import { shell } from '../harness/command.ts';
import { Sandbox, until } from '../harness/sandbox.ts';

const password = 'pass-word-d0d0caca-of-the-test';
/** Never on a command line: the machine's list of processes would have it. */
const canary = ['canary', 'c0ffee', 'of', 'the', 'vault'].join('-');

let sandbox: Sandbox;

beforeEach(() => {
  sandbox = new Sandbox();
});

afterEach(() => sandbox[Symbol.asyncDispose]());

const keyFile = () => sandbox.path('verfsnext.vault.key');
const vault = (...names: string[]) => sandbox.inMount('.vault', ...names);
const exitCode = (code: keyof typeof errorTable) => errorTable[code].exitCode;

/** `verfs crypt …` in the sandbox's directory, with passwords on standard input. */
const crypt = (options: readonly string[], ...passwords: string[]) =>
  sandbox.verfs(['crypt', sandbox.mountpoint, ...options, ...(passwords.length > 0 ? ['--password-stdin'] : [])], {
    cwd: sandbox.root,
    input: passwords.map((one) => `${one}\n`).join(''),
  });

async function succeeds(options: readonly string[], ...passwords: string[]): Promise<string> {
  const { code, stdout, stderr } = await crypt(options, ...passwords);
  if (code !== 0) {
    throw new Error(`verfs crypt ${options.join(' ')}: ${code}: ${stderr}`);
  }
  return stdout;
}

const unlock = () => succeeds(['-u', '-k', 'verfsnext.vault.key'], password);

async function expectLocked(): Promise<void> {
  expect(await shell('ls -la', { cwd: sandbox.mountpoint })).not.toContain('.vault');
  expect(existsSync(vault())).toBe(false);
  expect(() => readFileSync(vault('letter'))).toThrow(/ENOENT/);
  expect(() => writeFileSync(vault(), 'x')).toThrow(/EPERM/);
}

/** Whether any memory of a process has these bytes. */
function inMemory(pid: number, needle: Buffer): boolean {
  const piece = Buffer.alloc(8 << 20);
  const memory = openSync(`/proc/${pid}/mem`, 'r');
  try {
    for (const line of readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n')) {
      const [, from, to, mode] = /^([0-9a-f]+)-([0-9a-f]+) (\S+)/.exec(line) ?? [];
      if (from === undefined || to === undefined || !mode?.startsWith('r') || /\[v(var|syscall)/.test(line)) {
        continue;
      }
      const end = Number.parseInt(to, 16);
      for (let at = Number.parseInt(from, 16); at < end; at += piece.length - needle.length) {
        let bytes = 0;
        try {
          bytes = readSync(memory, piece, 0, Math.min(piece.length, end - at), at);
        } catch {
          // No memory is behind it.
          break;
        }
        if (piece.subarray(0, bytes).includes(needle)) {
          return true;
        }
      }
    }
    return false;
  } finally {
    closeSync(memory);
  }
}

/** Files below a directory that have these bytes in them or in their name. */
function filesWith(directory: string, needle: string): string[] {
  const files = readdirSync(directory, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const paths = files.map(({ parentPath, name }) => join(parentPath, name));
  return paths.filter((path) => path.includes(needle) || readFileSync(path).includes(needle));
}

test('a new user makes a vault, uses it, and finds it after a remount', async () => {
  await sandbox.mount();
  expect((await crypt(['-u'], password)).code).toBe(exitCode('VERFS_E_VAULT_KEY_FILE'));
  expect(await succeeds([])).toContain('none');

  expect(await succeeds(['-c'], password)).toContain('verfsnext.vault.key');
  expect(statSync(keyFile()).mode & 0o777).toBe(0o600);
  await expectLocked();
  const key = readFileSync(keyFile());
  const again = await crypt(['-c', '-path', sandbox.root], password);
  expect(again.code).toBe(exitCode('VERFS_E_VAULT_KEY_FILE'));
  expect(readFileSync(keyFile())).toEqual(key);
  expect((await crypt(['--create', '--key-directory', sandbox.home], password)).code).toBe(
    exitCode('VERFS_E_VAULT_EXISTS'),
  );
  expect(existsSync(join(sandbox.home, 'verfsnext.vault.key'))).toBe(false);

  await unlock();
  expect((await crypt(['-u'], password)).code).toBe(exitCode('VERFS_E_VAULT_UNLOCKED'));
  await shell(`ls -la | grep -q ' .vault$'; mkdir .vault/d; echo hello > .vault/d/letter; cp -r /etc/ssl .vault/`, {
    cwd: sandbox.mountpoint,
  });
  const sums = await shell('find . -type f | sort | xargs sha256sum', { cwd: vault() });
  await succeeds(['-l']);
  await expectLocked();
  await succeeds(['--lock', '--force']);

  await sandbox.unmount();
  await sandbox.mount();
  await expectLocked();
  await unlock();
  expect(await shell('find . -type f | sort | xargs sha256sum', { cwd: vault() })).toBe(sums);
  const status = await sandbox.json<{ state: string; passes: number }>(['crypt', sandbox.mountpoint, '--status']);
  expect(status).toMatchObject({ state: 'unlocked', memoryKib: 65_536 });
  expect(status.passes).toBeGreaterThanOrEqual(3);
});

test('secrets come from many places, and wrong ones all say the same', async () => {
  await sandbox.mount();
  expect((await crypt(['-l'], ...[])).code).toBe(0);
  await succeeds(['-c'], password);
  const unlockWith = (options: readonly string[], env: Record<string, string> = {}) =>
    sandbox.verfs(['crypt', sandbox.mountpoint, '-u', ...options], {
      cwd: sandbox.root,
      env: { ...sandbox.env, ...env },
    });
  expect((await unlockWith([])).stderr).toContain('no terminal');
  const argument = await unlockWith(['-p', password]);
  expect(argument.code).toBe(0);
  expect(argument.stderr).toContain('others on this machine can see');
  await succeeds(['-l']);
  expect((await unlockWith(['--password-env', 'SECRET'], { SECRET: password })).code).toBe(0);
  await succeeds(['-l']);
  writeFileSync(sandbox.path('password'), password, { mode: 0o600 });
  const { verfsProgram } = await import('../harness/sandbox.ts');
  await shell(
    `${process.execPath} ${verfsProgram} crypt ${sandbox.mountpoint} -u --password-fd 7 7< ${sandbox.path('password')}`,
    { cwd: sandbox.root, env: sandbox.env },
  );
  await succeeds(['-l']);

  await shell('mkdir other', { cwd: sandbox.root });
  const otherKey = sandbox.path('other', 'verfsnext.vault.key');
  // Of another vault.
  await sandbox.verfs(['volume', 'create', sandbox.path('other-volume')]);
  const other = ['crypt', '--volume', sandbox.path('other-volume'), '-c', '-path', sandbox.path('other')];
  expect((await sandbox.verfs([...other, '--password-stdin'], { input: 'x\n' })).code).toBe(0);
  const wrongPassword = await crypt(['-u'], 'wrong');
  const wrongKey = await crypt(['-u', '-k', otherKey], password);
  expect([wrongPassword.code, wrongKey.code]).toEqual(Array(2).fill(exitCode('VERFS_E_VAULT_SECRET')));
  expect(wrongPassword.stderr).toBe(wrongKey.stderr);
  // The waits grow: whatever a command takes on this machine, one is in time to be refused.
  const codes: number[] = [];
  while (codes.length < 8 && codes.at(-1) !== exitCode('VERFS_E_VAULT_RATE_LIMITED')) {
    codes.push((await crypt(['-u'], 'wrong')).code);
  }
  expect(codes.at(-1)).toBe(exitCode('VERFS_E_VAULT_RATE_LIMITED'));
  await shell(`chmod 644 ${keyFile()}`);
  expect((await crypt(['-u'], password)).code).toBe(exitCode('VERFS_E_VAULT_KEY_FILE'));
  writeFileSync(keyFile(), 'nonsense', { mode: 0o600 });
  await shell(`chmod 600 ${keyFile()}; sleep 1`);
  expect((await crypt(['-u'], password)).code).toBe(exitCode('VERFS_E_VAULT_KEY_FILE'));
});

test('password and key file can be changed, mounted or not', async () => {
  await sandbox.mount();
  await succeeds(['-c'], password);
  await unlock();
  writeFileSync(vault('letter'), 'kept');
  await succeeds(['--change-password'], password, 'second');
  const before = readFileSync(keyFile());
  await sandbox.unmount();
  const unmounted = (options: readonly string[], input: string) =>
    sandbox.verfs(['crypt', '--volume', sandbox.volume, ...options, '--password-stdin'], { cwd: sandbox.root, input });
  expect((await unmounted(['--rotate-keyfile'], 'second\n')).code).toBe(0);
  expect(readFileSync(keyFile())).not.toEqual(before);
  expect(readdirSync(sandbox.root).filter((name) => name.includes('.new-'))).toEqual([]);
  const checked = await unmounted(['-u'], 'second\n');
  expect(checked.code).toBe(0);
  expect(checked.stdout).toContain('not mounted');
  expect((await unmounted(['-u'], `${password}\n`)).code).toBe(exitCode('VERFS_E_VAULT_SECRET'));
  await sandbox.mount();
  await succeeds(['-u'], 'second');
  expect(readFileSync(vault('letter'), 'utf8')).toBe('kept');
});

test('after a lock nothing of it is in memory, in the volume, in the log', async () => {
  const { pid, logFile } = await sandbox.mount();
  await succeeds(['-c'], password);
  await unlock();
  const text = Buffer.from(canary);
  const keyText = readFileSync(keyFile(), 'utf8').split('\n')[1] ?? '';
  writeFileSync(vault(`${canary}-small`), canary);
  writeFileSync(vault('large'), Array(200_000).fill(canary).join('\n'));
  await shell('sync large; cat large > copy; ls -la > /dev/null; cat copy > /dev/null; rm copy', { cwd: vault() });
  const open = openSync(vault('large'), 'r');
  const found = Buffer.alloc(100);
  readSync(open, found);
  expect(found.includes(canary)).toBe(true);
  // The scan finds what there is.
  expect(inMemory(pid, text)).toBe(true);
  expect(statSync(`/proc/${pid}`).uid).toBe(process.getuid?.());
  await succeeds(['-l', '--grace', '2s']);
  expect(() => readSync(open, found, 0, 100, 0)).toThrow(/EIO|ENOTCONN|ECONNABORTED/);
  closeSync(open);

  expect(inMemory(pid, text)).toBe(false);
  expect(inMemory(pid, Buffer.from(password))).toBe(false);
  expect(inMemory(pid, Buffer.from(keyText))).toBe(false);
  expect(inMemory(pid, Buffer.from(keyText, 'hex'))).toBe(false);
  for (const secret of [canary, password, keyText]) {
    expect(filesWith(sandbox.volume, secret)).toEqual([]);
    expect(readFileSync(logFile, 'utf8')).not.toContain(secret);
    expect(readFileSync(`/proc/${pid}/cmdline`, 'utf8')).not.toContain(secret);
    expect(readFileSync(`/proc/${pid}/environ`, 'utf8')).not.toContain(secret);
    expect(JSON.stringify(await sandbox.json(['stats', sandbox.mountpoint]))).not.toContain(secret);
  }
  await expectLocked();
  await unlock();
  expect(readFileSync(vault('large')).subarray(0, canary.length).toString()).toBe(canary);
});

test('a core dump has nothing of a vault that is locked, and there is none while it is open', async () => {
  const text = Buffer.from(canary);
  // Where the kernel writes it into the directory of the process; elsewhere nobody knows where to look.
  const isSeen = /^core\n$/.test(readFileSync('/proc/sys/kernel/core_pattern', 'utf8'));
  const core = () => readdirSync(sandbox.root).find((name) => /^core(\.\d+)?$/.test(name));
  const dumpAtEnd = async (before: () => Promise<unknown>) => {
    const daemon = sandbox.start(
      ['mount', sandbox.mountpoint, '--volume', sandbox.volume, '--foreground'],
      sandbox.root,
    );
    await until('it is mounted', async () => (await sandbox.verfs(['status', sandbox.mountpoint])).code === 0);
    const pid = daemon.child.pid as number;
    await shell(`prlimit --pid ${pid} --core=unlimited`);
    await before();
    process.kill(pid, 'SIGABRT');
    await daemon.ended();
    await shell(`umount -l ${sandbox.mountpoint}`);
  };
  await sandbox.verfs(['volume', 'create', sandbox.volume]);
  await dumpAtEnd(async () => {
    await succeeds(['-c'], password);
    await unlock();
    writeFileSync(vault(canary), Array(100_000).fill(canary).join('\n'));
    await shell('cat * > /dev/null; sync *', { cwd: vault() });
  });
  expect(core()).toBeUndefined();
  await dumpAtEnd(async () => {
    await unlock();
    await shell('ls -la > /dev/null; cat * > /dev/null', { cwd: vault() });
    await succeeds(['-l']);
  });
  expect(core() !== undefined).toBe(isSeen);
  for (const name of readdirSync(sandbox.root).filter((entry) => entry.startsWith('core'))) {
    const found = await shell(`grep -c -e ${text.subarray(0, 12)} -e ${password.slice(0, 16)} ${name} || true`, {
      cwd: sandbox.root,
    });
    expect(found.trim()).toBe('0');
  }
});

test('it ends with its mount, whatever ends that', async () => {
  const { pid } = await sandbox.mount();
  await succeeds(['-c'], password);
  await unlock();
  const mounts = () =>
    readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .filter((line) => line.includes(sandbox.root));
  expect(mounts().length).toBe(2);
  writeFileSync(vault('letter'), 'one');
  expect((await sandbox.verfs(['unmount', sandbox.mountpoint])).code).toBe(0);
  await until('nothing of it is mounted', () => mounts().length === 0 && !existsSync(`/proc/${pid}`));

  for (const signal of ['SIGTERM', 'SIGINT', 'SIGQUIT'] as const) {
    const again = await sandbox.mount();
    await unlock();
    writeFileSync(vault(signal), signal);
    const open = openSync(vault('letter'), 'r');
    process.kill(again.pid, signal);
    await until('nothing of it is mounted', () => mounts().length === 0);
    expect(() => readSync(open, Buffer.alloc(3), 0, 3, 0)).toThrow();
    closeSync(open);
    await until('the daemon is gone', () => !existsSync(`/proc/${again.pid}`));
    expect(readFileSync(again.logFile, 'utf8')).not.toContain('"level":"error"');
  }
  await sandbox.mount();
  await expectLocked();
  await unlock();
  expect(readdirSync(vault()).sort()).toEqual(['SIGINT', 'SIGQUIT', 'SIGTERM', 'letter']);
  expect(readFileSync(vault('SIGTERM'), 'utf8')).toBe('SIGTERM');
});

test('what is damaged in it is told while it is open, and its name nowhere else', async () => {
  const { pid, logFile } = await sandbox.mount();
  await succeeds(['-c', '--no-compression'], password);
  await unlock();
  await shell(`mkdir d; head -c 3000000 /dev/urandom > d/${canary}; sync d/${canary}`, { cwd: vault() });
  await succeeds(['-l']);
  await shell(
    `for pack in $(find vault -name '*.vpk'); do
      printf XXXXXXXX | dd of=$pack bs=1 seek=300000 conv=notrunc status=none
    done`,
    { cwd: sandbox.volume },
  );
  await unlock();
  expect(() => readFileSync(vault('d', canary))).toThrow(/EIO/);
  type Status = {
    readonly vault: string;
    readonly damaged: readonly { readonly path: string; readonly pack: string }[];
  };
  // Asked by a path in it, too.
  const unlocked = await sandbox.json<Status>(['status', vault('d')]);
  expect(unlocked.vault).toBe('unlocked');
  expect(unlocked.damaged.map(({ path }) => path)).toEqual([`/.vault/d/${canary}`]);
  expect(unlocked.damaged[0]?.pack).not.toBe('');
  expect((await sandbox.verfs(['status', sandbox.mountpoint])).stdout).toContain(`/.vault/d/${canary}: pack`);
  await succeeds(['-l']);
  expect(await sandbox.json<Status>(['status', sandbox.mountpoint])).toMatchObject({ vault: 'locked', damaged: [] });
  expect(inMemory(pid, Buffer.from(canary))).toBe(false);
  expect(readFileSync(logFile, 'utf8')).not.toContain(canary);
  expect(readFileSync(logFile, 'utf8')).toContain('damaged');
});

test('a vault that nobody uses locks itself', async () => {
  await sandbox.mount();
  await succeeds(['-c'], password);
  await succeeds(['-u', '--auto-lock', '2s'], password);
  const began = performance.now();
  // Whoever uses it keeps it open.
  while (performance.now() - began < 4000) {
    writeFileSync(vault('used'), String(performance.now()));
    await shell('sleep 0.3');
  }
  await until('it is locked', () => !existsSync(vault()));
  await expectLocked();
  expect((await crypt(['--auto-lock', '3x'])).code).toBe(exitCode('VERFS_E_USAGE'));
});

test('a new data key comes while the vault is in use', async () => {
  await sandbox.mount();
  await succeeds(['-c', '--no-compression'], password);
  expect((await crypt(['--rekey'], password)).code).toBe(exitCode('VERFS_E_VAULT_LOCKED'));
  await unlock();
  await shell('head -c 20000000 /dev/urandom > large; sha256sum large > sum; sync large', { cwd: vault() });
  await succeeds(['--rekey'], password);
  const status = () => sandbox.json<{ rekey: string }>(['crypt', sandbox.mountpoint]);
  await shell('sha256sum -c sum; echo more > more', { cwd: vault() });
  await until('it is done', async () => (await status()).rekey === 'idle', 60_000);
  await succeeds(['-l']);
  await unlock();
  await shell('sha256sum -c sum; test "$(cat more)" = more', { cwd: vault() });
});

test('a password that is typed is not shown', async () => {
  const { pid } = await sandbox.mount();
  expect(pid).toBeGreaterThan(0);
  const { verfsProgram } = await import('../harness/sandbox.ts');
  const command = `${process.execPath} ${verfsProgram} crypt ${sandbox.mountpoint} -c`;
  const typed = `(sleep 2; printf '${password}\\n'; sleep 1; printf '${password}\\n'; sleep 4)`;
  const shown = await shell(`${typed} | script -qec "${command}" /dev/null`, { cwd: sandbox.root, env: sandbox.env });
  expect(shown).toContain('New password:');
  expect(shown).toContain('The vault is made');
  expect(shown).not.toContain(password);
  await unlock();
});

test('a rollback takes an open vault along, and tells of a locked one that stays as it is', async () => {
  const rollback = (...words: string[]) =>
    sandbox.verfs(['snapshot', 'rollback', 'then', '--volume', sandbox.volume, ...words]);
  const back = 'The volume is what it was in the snapshot then.';
  const kept = 'The vault is locked and stays as it is: unlock it, and roll back again, for the vault as well.';
  const write = (letter: string) => {
    writeFileSync(vault('letter'), letter);
    writeFileSync(sandbox.inMount('letter'), letter);
  };
  const letters = () => [sandbox.inMount('letter'), vault('letter')].map((path) => readFileSync(path, 'utf8'));
  await sandbox.mount();
  await succeeds(['-c'], password);
  await unlock();
  write('one');
  await sandbox.json(['snapshot', 'create', 'then', '--volume', sandbox.volume]);
  write('two');
  const open = openSync(vault('letter'), 'r');
  expect(await rollback()).toMatchObject({ code: 0, stdout: `${back}\n`, stderr: '' });
  expect(letters()).toEqual(['one', 'one']);
  // It is open still, and so is what was open in it.
  expect(await sandbox.json(['crypt', sandbox.mountpoint])).toMatchObject({ state: 'unlocked' });
  expect(readFileSync(open, 'utf8')).toBe('one');
  closeSync(open);
  expect(JSON.parse((await rollback('--json')).stdout)).toEqual({ name: 'then' });

  write('three');
  await succeeds(['-l']);
  expect(await rollback()).toMatchObject({ code: 0, stdout: `${back}\n${kept}\n`, stderr: '' });
  expect(JSON.parse((await rollback('--json')).stdout)).toEqual({ name: 'then', keptVault: true });
  await expectLocked();
  await unlock();
  expect(letters()).toEqual(['one', 'three']);
  // As it says.
  expect((await rollback()).stdout).toBe(`${back}\n`);
  expect(letters()).toEqual(['one', 'one']);

  // A volume that nobody has open has a locked one.
  write('four');
  await sandbox.unmount();
  expect((await rollback()).stdout).toBe(`${back}\n${kept}\n`);
  await sandbox.mount();
  await unlock();
  expect(letters()).toEqual(['one', 'four']);
});
