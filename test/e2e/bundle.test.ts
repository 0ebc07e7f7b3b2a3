/** A support bundle tells what helps, and nothing that is nobody's business: no canary that was put anywhere sings in it. */
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { hostname, userInfo } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { errorTable } from '@verfs/errors';
import { shell } from '../harness/command.ts';
import { Sandbox } from '../harness/sandbox.ts';

interface Bundle {
  readonly versions: Readonly<Record<string, string>>;
  readonly configuration: Readonly<Record<string, unknown>>;
  readonly doctor: readonly { readonly check: string; readonly verdict: string; readonly found: string }[];
  readonly volume: {
    readonly info: { readonly engine: string };
    readonly status: { readonly damaged: readonly string[]; readonly policy: { readonly schedule: string } };
    readonly stats: Readonly<Record<string, number>>;
    readonly metrics: readonly string[];
    readonly snapshots: number;
    readonly vault: string;
    readonly log: readonly { readonly message: string; readonly level: string }[];
    readonly fsck: { readonly verdict: string; readonly findings: Readonly<Record<string, number>> };
  };
}

/** Words that nobody but this test says, in the forms that names have. */
const canaries = ['kanarie', 'zeisig-7f3a', 'Ära_Gimpel', 'stieglitz.example', '193.0.2.77', 'distelfink'];

let sandbox: Sandbox;

beforeEach(() => {
  sandbox = new Sandbox();
});

afterEach(() => sandbox[Symbol.asyncDispose]());

/** What is in the text that must not be. */
function leaks(text: string): string[] {
  const private_ = [...canaries, sandbox.root, sandbox.volume, sandbox.home, hostname(), userInfo().homedir];
  const uuid = readFileSync(join(sandbox.volume, 'volume.toml'), 'utf8').match(/[0-9a-f]{8}-[0-9a-f-]{27}/)?.[0];
  // Names so short that any text has them say nothing.
  return [...private_, uuid ?? 'no uuid'].filter(
    (one) => one.length > 3 && text.toLowerCase().includes(one.toLowerCase()),
  );
}

async function bundleAt(file: string, ...args: string[]): Promise<{ readonly text: string; readonly bundle: Bundle }> {
  const outcome = await sandbox.verfs(['doctor', '--bundle', file, ...args]);
  expect(outcome).toMatchObject({ code: 0, stderr: '' });
  expect(statSync(file).mode & 0o777).toBe(0o600);
  const bytes = readFileSync(file);
  const text = (file.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString();
  return { text, bundle: JSON.parse(text) as Bundle };
}

test('of a mounted volume it has state, figures and the log, and no canary', async () => {
  const [word, dashed, umlaut, host, address, last] = canaries as [string, string, string, string, string, string];
  const config = join(sandbox.home, '.config/verfs');
  mkdirSync(config, { recursive: true });
  writeFileSync(join(config, 'config.toml'), `[mount]\npoint = "/srv/${word}/${dashed}"\n`);
  const { logFile } = await sandbox.mount();
  const inMount = (script: string) => shell(script, { cwd: sandbox.mountpoint });
  await inMount(`mkdir -p '${word}/${umlaut}' && echo 'content ${dashed}' > '${word}/${umlaut}/${dashed}'`);
  await inMount(`ln -s '${host}' link && setfattr -n user.${word} -v '${last}' '${word}/${umlaut}/${dashed}'`);
  writeFileSync(sandbox.path('password'), `${word} ${dashed} ${last}\n`);
  const onVolume = (...args: string[]) => sandbox.json([...args, '--volume', sandbox.mountpoint]);
  await onVolume('snapshot', 'create', word, '--note', `note of ${dashed}`);
  await onVolume('snapshot', 'hold', word, '--tag', last);
  await onVolume('policy', 'set', '--schedule', 'hourly');
  await shell(
    `'${process.execPath}' packages/cli/bin/verfs.js crypt -c --password-stdin --key-directory '${sandbox.root}' '${sandbox.mountpoint}' < '${sandbox.path('password')}'`,
    { env: sandbox.env },
  );
  // What a log may say, in every form that it may have.
  const said = [
    `took the snapshot ${word}`,
    `mounted /srv/${word} at /mnt/${dashed}/verfs, process 12`,
    `refused a connection of ${umlaut}@${host} from ${address}: the disk is full`,
    `can't read "${word} ${last}" and '${dashed}' and \`${host}\``,
    `collected garbage packs=3 path=/${word} file=${last} reclaimed_bytes=4711`,
    `${word.toUpperCase()}: ${last}`,
  ];
  for (const message of said) {
    appendFileSync(
      logFile,
      `${JSON.stringify({ time: new Date().toISOString(), level: 'warn', target: 'daemon', message })}\n`,
    );
  }
  appendFileSync(
    logFile,
    `${word} is no JSON\n${JSON.stringify({ time: word, level: last, target: host, message: 7 })}\n`,
  );

  const { text, bundle } = await bundleAt(sandbox.path('bundle.json'), sandbox.mountpoint);
  expect(leaks(text)).toEqual([]);
  expect(bundle.versions['node']).toBe(process.version);
  expect(bundle.configuration).toMatchObject({
    'mount.point': 'set',
    'create.chunker': 'mincdc',
    'group.blocks': 3000,
  });
  expect(bundle.doctor.map(({ check }) => check)).toEqual(expect.arrayContaining(['kernel', 'fuse', 'space', 'scrub']));
  expect(bundle.volume).toMatchObject({
    info: { engine: 'surrealkv' },
    status: { damaged: [], policy: { schedule: 'hourly' } },
    vault: 'locked',
  });
  // The policy may have taken one.
  expect(bundle.volume.snapshots).toBeGreaterThanOrEqual(1);
  expect(bundle.volume.stats['files']).toBe(2);
  expect(bundle.volume.metrics.some((line) => line.startsWith('verfs_'))).toBe(true);
  const messages = bundle.volume.log.map(({ message }) => message);
  // What helps is left.
  expect(messages).toContain('took the snapshot …');
  expect(messages).toContain('mounted … at … process 12');
  expect(messages).toContain('collected garbage packs=3 … reclaimed_bytes=4711');
  expect(messages.some((message) => message?.startsWith('refused a connection of … the disk is full'))).toBe(false);
  expect(messages.some((message) => message?.endsWith('the disk is full'))).toBe(true);
});

test('of one that is not mounted it says what fsck finds, compressed if the name says so', async () => {
  await sandbox.mount();
  await shell(`head -c 2000000 /dev/urandom > ${canaries[0]}`, { cwd: sandbox.mountpoint });
  await sandbox.unmount();
  for (const { name, parentPath } of readdirSync(join(sandbox.volume, 'packs'), {
    recursive: true,
    withFileTypes: true,
  })) {
    if (name.endsWith('.vpk')) {
      rmSync(join(parentPath, name));
    }
  }
  const file = sandbox.path('bundle.json.gz');
  const { text, bundle } = await bundleAt(file, '--volume', sandbox.volume);
  expect(leaks(text)).toEqual([]);
  expect(bundle.volume.fsck.verdict).toBe('found');
  expect(Object.keys(bundle.volume.fsck.findings).length).toBeGreaterThan(0);
  // It is not written over.
  const again = await sandbox.verfs(['doctor', '--bundle', file]);
  expect(again.code).toBe(errorTable.VERFS_E_TARGET_EXISTS.exitCode);
  const nowhere = await sandbox.verfs(['doctor', '--bundle', sandbox.path('absent/bundle')]);
  expect(nowhere.code).toBe(errorTable.VERFS_E_IO.exitCode);
  expect(existsSync(sandbox.path('absent'))).toBe(false);
  // Where there is no volume, and no usable configuration, it tells that.
  writeFileSync(sandbox.path('wrong.toml'), `[mount]\n${canaries[0]} = 1\n`);
  const args = ['--volume', sandbox.path('none'), '--config', sandbox.path('wrong.toml')];
  const none = await bundleAt(sandbox.path('none.json'), ...args);
  expect(leaks(none.text)).toEqual([]);
  expect(none.bundle).toMatchObject({
    configuration: { error: 'VERFS_E_CONFIG_KEY' },
    volume: { error: 'VERFS_E_NOT_A_VOLUME' },
  });
});
