import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { run } from '../harness/command.ts';
import { repository, Sandbox } from '../harness/sandbox.ts';

let sandbox: Sandbox;

beforeEach(() => {
  sandbox = new Sandbox();
});

afterEach(() => sandbox[Symbol.asyncDispose]());

/** Runs an npm script with the real home, where Rust is, and a configuration for the sandbox. */
async function npmRun(script: string, ...args: string[]) {
  const config = sandbox.path('config.toml');
  const lines = [
    ...['[volume]', `path = "${sandbox.volume}"`, '[daemon]', `log_directory = "${sandbox.path('log')}"`],
    ...['[mount]', `point = "${sandbox.path('by-configuration')}"`],
  ];
  writeFileSync(config, lines.join('\n'));
  const options = { cwd: repository, env: { ...process.env } as Record<string, string>, timeoutMs: 120_000 };
  return await run('npm', ['run', '--silent', script, '--', ...args, '--config', config], options);
}

test('npm run mount makes what it needs, says what it did and how to unmount', async () => {
  const mountpoint = sandbox.path('made', 'deep');
  const first = await npmRun('mount', mountpoint);
  expect(first).toMatchObject({ code: 0 });
  expect(first.stdout).toContain(`Made the directory ${mountpoint}.`);
  expect(first.stdout).toContain(`Made the volume ${sandbox.volume}.`);
  expect(first.stdout).toContain(`Mounted ${sandbox.volume} at ${mountpoint}`);
  expect(first.stdout).toContain(`npx verfs unmount ${mountpoint}`);
  await sandbox.json(['unmount', mountpoint]);
  const second = await npmRun('mount', mountpoint);
  expect(second).toMatchObject({ code: 0 });
  expect(second.stdout).not.toContain('Made');
  await sandbox.json(['unmount', mountpoint]);
});

test('npm run mount without a directory mounts where the configuration says', async () => {
  const mountpoint = sandbox.path('by-configuration');
  const outcome = await npmRun('mount');
  expect(outcome).toMatchObject({ code: 0 });
  expect(outcome.stdout).toContain(`Mounted ${sandbox.volume} at ${mountpoint}`);
  await sandbox.json(['unmount', mountpoint]);
  writeFileSync(sandbox.path('wrong.toml'), '[mount]\npoint = 7\n');
  const wrong = await run('npm', ['run', '--silent', 'mount', '--', `--config=${sandbox.path('wrong.toml')}`], {
    cwd: repository,
    env: { ...process.env } as Record<string, string>,
    timeoutMs: 120_000,
  });
  expect(wrong.code).not.toBe(0);
  expect(wrong.stderr).toContain('mount.point');
  expect(wrong.stderr).toContain('npm run mount -- DIRECTORY');
});

test('npm run mount leaves no directory when the mount fails, and has the exit code of the error', async () => {
  mkdirSync(sandbox.volume);
  writeFileSync(join(sandbox.volume, 'mine'), '');
  const outcome = await npmRun('mount', sandbox.path('made', 'deep'));
  expect(outcome.code).toBe(30);
  expect((await run('ls', [sandbox.path('made')])).code).not.toBe(0);
});

test('what is missing is told in one line, with the command that installs it', async () => {
  const env = { PATH: '/nowhere', HOME: sandbox.home };
  const outcome = await run(process.execPath, [join(repository, 'scripts/build.mjs')], { env });
  expect(outcome).toMatchObject({ code: 1, stdout: '' });
  expect(outcome.stderr).toMatch(/^Rust is missing\. Install it: curl .*\n$/);
});
