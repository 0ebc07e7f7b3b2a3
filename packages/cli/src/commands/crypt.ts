import { UsageError, VaultLockedError, VolumeFullError } from '@verfs/errors';
import type { VaultStatus } from '@verfs/sdk';
import { keyFileName } from '@verfs/vault';
import type { Argv } from 'yargs';
import type { CommonArguments, TargetArguments } from '../context.ts';
import { formatBytes, formatRows } from '../format.ts';
import { createOutput, type Output } from '../output.ts';
import { type PasswordArguments, passwords } from '../password.ts';
import { durationMs } from '../quantities.ts';
import { withVolume } from '../volume-access.ts';

const actions = [
  'create',
  'unlock',
  'lock',
  'status',
  'change-password',
  'rotate-keyfile',
  'rekey',
  'auto-lock',
] as const satisfies (keyof CryptArguments)[];

interface CryptArguments extends TargetArguments, PasswordArguments {
  readonly create?: boolean | undefined;
  readonly unlock?: boolean | undefined;
  readonly lock?: boolean | undefined;
  readonly status?: boolean | undefined;
  readonly 'change-password'?: boolean | undefined;
  readonly 'rotate-keyfile'?: boolean | undefined;
  readonly rekey?: boolean | undefined;
  readonly 'auto-lock'?: string | undefined;
  readonly 'key-file'?: string | undefined;
  readonly 'key-directory'?: string | undefined;
  readonly compression: boolean;
  readonly force?: boolean | undefined;
  readonly grace?: string | undefined;
}

/** Options of `verfs crypt`. */
export const cryptBuilder = (yargs: Argv<CommonArguments>) =>
  yargs
    .positional('path', { type: 'string', describe: 'The mountpoint, or a path in the mount' })
    .option('volume', { type: 'string', requiresArg: true, describe: 'Directory of the volume' })
    .option('create', { alias: 'c', type: 'boolean', describe: `Make the vault and its key file ${keyFileName}` })
    .option('unlock', { alias: 'u', type: 'boolean', describe: 'Open it: it is in `.vault` of the mount' })
    .option('lock', { alias: 'l', type: 'boolean', describe: 'Lock it: nothing of it is to be seen any more' })
    .option('status', { type: 'boolean', describe: 'Tell what it is, as without an option' })
    .option('change-password', { type: 'boolean', describe: 'Have it opened by another password' })
    .option('rotate-keyfile', {
      type: 'boolean',
      describe: 'Have it opened by a new key file in the place of the old one',
    })
    .option('rekey', {
      type: 'boolean',
      describe: 'Have what it holds encrypted anew with a new key, in the background',
    })
    .option('auto-lock', {
      type: 'string',
      requiresArg: true,
      describe: 'Lock it when nobody used it for so long, such as 15m; off: never',
    })
    .option('key-file', { alias: 'k', type: 'string', requiresArg: true, describe: `Key file [./${keyFileName}]` })
    .option('key-directory', { type: 'string', requiresArg: true, describe: 'Where -c makes the key file; also -path' })
    .option('password', { alias: 'p', type: 'string', requiresArg: true, describe: 'Password; others can see it' })
    .option('password-stdin', { type: 'boolean', describe: 'Password from standard input' })
    .option('password-env', { type: 'string', requiresArg: true, describe: 'Password from this environment variable' })
    .option('password-fd', { type: 'number', requiresArg: true, describe: 'Password from this file descriptor' })
    .option('compression', { type: 'boolean', default: true, describe: 'Compress before encrypting; for -c' })
    .option('grace', {
      type: 'string',
      requiresArg: true,
      describe: 'How long -l waits for operations under way [10s]',
    })
    .option('force', { type: 'boolean', describe: 'Cut operations under way off at once, for -l' })
    .example('$0 crypt -c', 'makes a vault, asks for a password, and writes the key file')
    .example(`$0 crypt -u -k ${keyFileName}`, 'opens it')
    .example('$0 crypt -l', 'locks it');

function autoLockMs(text: string): number {
  const ms = text === 'off' ? 0 : durationMs('auto-lock', text);
  if (text !== 'off' && (ms < 1000 || ms > 2 ** 31 - 1)) {
    throw new UsageError(`--auto-lock ${text} is out of bounds`, { advice: 'Write 1s to 24d, or off.' });
  }
  return ms;
}

const stateTexts: Readonly<Record<VaultStatus['state'], string>> = {
  absent: 'none: make one with `verfs crypt -c`',
  locked: 'locked',
  unlocked: 'unlocked, in .vault of the mount',
  damaged: 'its wrapped keys are damaged: no password opens it',
};

function statusText(status: VaultStatus): string[] {
  const { state, created, compressed, memoryKib, passes, idleMs, rekey, rekeyedBytes, rekeyFailure } = status;
  return formatRows([
    ['Vault', stateTexts[state]],
    ...(created === undefined ? [] : ([['Made', new Date(created).toISOString()]] as const)),
    ...(compressed === undefined ? [] : ([['Compressed', compressed ? 'yes' : 'no']] as const)),
    ...(passes === 0 ? [] : ([['Password', `Argon2id, ${memoryKib / 1024} MiB, ${passes} passes`]] as const)),
    ...(idleMs === undefined ? [] : ([['Idle', `${Math.round(idleMs / 1000)} s`]] as const)),
    ...(rekey === 'running' ? ([['New key', `${formatBytes(rekeyedBytes)} encrypted with it so far`]] as const) : []),
    ...(rekey === 'failed' ? ([['New key', `goes on when it is unlocked next: ${rekeyFailure}`]] as const) : []),
  ]);
}

/** Writes what was done. */
const done = (output: Output, state: string, value: object, ...lines: string[]) =>
  output.result({ done: state, ...value }, () => lines);

const oldPassword = { text: 'Password of the vault', twice: false };
const newPassword = { text: 'New password', twice: true };

async function create(args: CryptArguments, output: Output): Promise<void> {
  const [password] = (await passwords(args, [newPassword])) as [Uint8Array];
  const directory = args['key-directory'] ?? '.';
  const keyFile = await withVolume(args, ({ vault }) =>
    vault.create(password, { directory, compressed: args.compression }),
  );
  done(
    output,
    'created',
    { keyFile },
    `The vault is made, and locked. Its key file is ${keyFile}: keep it apart from the volume, and a copy of it.`,
    'Without the key file, or without the password, nobody can open the vault again.',
  );
}

/** Opens the vault, and has it lock itself after `after` without use, if that is given. */
async function unlock(args: CryptArguments, after: string | undefined, output: Output): Promise<void> {
  const afterMs = after === undefined ? undefined : autoLockMs(after);
  const [password] = (await passwords(args, [oldPassword])) as [Uint8Array];
  const keyFile = args['key-file'] ?? keyFileName;
  await withVolume(args, async ({ vault }, mountpoint) => {
    if (mountpoint === undefined) {
      if (afterMs !== undefined) {
        throw notMounted();
      }
      // Who opens the volume for a moment closes it again, and the vault with it.
      await vault.check(password, keyFile);
      const text = 'Password and key file are right. The volume is not mounted: mount it, and unlock the vault then.';
      done(output, 'checked', {}, text);
      return;
    }
    await vault.unlock(password, keyFile);
    const path = `${mountpoint}/.vault`;
    const text = `The vault is unlocked: ${path}`;
    if (afterMs === undefined) {
      done(output, 'unlocked', { path }, text);
      return;
    }
    await vault.autoLock(afterMs);
    done(output, 'unlocked', { path, afterMs }, text, autoLockText(after, afterMs));
  });
}

async function lock(args: CryptArguments, output: Output): Promise<void> {
  const grace = args.force === true ? 0 : args.grace === undefined ? undefined : durationMs('grace', args.grace);
  try {
    await withVolume(args, ({ vault }) => vault.lock(grace === undefined ? {} : { graceMs: grace }));
  } catch (error) {
    if (error instanceof VolumeFullError) {
      const { path } = error;
      throw new VolumeFullError('The disk has no room for what was written to the vault, which stays unlocked', {
        ...(path === undefined ? {} : { path }),
        advice: 'Free some space, and lock it again.',
        cause: error,
      });
    }
    throw error;
  }
  done(output, 'locked', {}, 'The vault is locked.');
}

async function changePassword(args: CryptArguments, output: Output): Promise<void> {
  const found = (await passwords(args, [oldPassword, newPassword])) as [Uint8Array, Uint8Array];
  await withVolume(args, ({ vault }) => vault.changePassword(...found, args['key-file'] ?? keyFileName));
  done(output, 'password-changed', {}, 'The password is changed; the old one opens nothing any more.');
}

async function rotateKeyFile(args: CryptArguments, output: Output): Promise<void> {
  const [password] = (await passwords(args, [oldPassword])) as [Uint8Array];
  const keyFile = args['key-file'] ?? keyFileName;
  await withVolume(args, ({ vault }) => vault.rotateKeyFile(password, keyFile));
  done(output, 'key-file-changed', { keyFile }, `${keyFile} is a new key file; copies of the old one open nothing.`);
}

async function rekey(args: CryptArguments, output: Output): Promise<void> {
  const [password] = (await passwords(args, [oldPassword])) as [Uint8Array];
  await withVolume(args, async ({ vault }, mountpoint) => {
    if (mountpoint === undefined) {
      throw new VaultLockedError('The volume is not mounted, and its vault locked', { advice: 'Mount and unlock it.' });
    }
    await vault.rekey(password, args['key-file'] ?? keyFileName);
  });
  const text = 'What the vault holds is being encrypted anew; `verfs crypt --status` tells how far it is.';
  done(output, 'rekey', {}, text);
}

const notMounted = () =>
  new UsageError('The volume is not mounted, and its vault locked', { advice: 'Mount it first.' });

const autoLockText = (after: string | undefined, afterMs: number): string =>
  afterMs === 0 ? 'The vault locks itself no more.' : `The vault locks itself after ${after} without use.`;

async function autoLock(args: CryptArguments, after: string, output: Output): Promise<void> {
  const afterMs = autoLockMs(after);
  await withVolume(args, async ({ vault }, mountpoint) => {
    if (mountpoint === undefined) {
      throw notMounted();
    }
    await vault.autoLock(afterMs);
  });
  done(output, 'auto-lock', { afterMs }, autoLockText(after, afterMs));
}

/** Makes, opens, locks a vault, or changes what opens it. */
export async function crypt(args: CryptArguments): Promise<void> {
  const output = createOutput(args.json ? 'json' : 'text');
  const asked = actions.filter((action) => args[action] !== undefined && args[action] !== false);
  if (asked.length > 1 && !(asked.length === 2 && asked.includes('unlock') && asked.includes('auto-lock'))) {
    throw new UsageError(`--${asked.join(' and --')} exclude each other`);
  }
  const [action = 'status'] = asked;
  switch (action) {
    case 'create':
      return await create(args, output);
    case 'unlock':
      return await unlock(args, args['auto-lock'], output);
    case 'lock':
      return await lock(args, output);
    case 'change-password':
      return await changePassword(args, output);
    case 'rotate-keyfile':
      return await rotateKeyFile(args, output);
    case 'rekey':
      return await rekey(args, output);
    case 'auto-lock':
      return await autoLock(args, args['auto-lock'] ?? 'off', output);
    case 'status': {
      const status = await withVolume(args, ({ vault }) => vault.status());
      return output.result(status, () => statusText(status));
    }
  }
}
