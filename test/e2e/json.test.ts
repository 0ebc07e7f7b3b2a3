/** What `--json` promises of every command that there is: programs read standard output, and nothing else is in it. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { type ErrorCode, errorTable } from '@verfs/errors';
import { commandModels } from '../../packages/cli/src/reference/model.ts';
import { type Outcome, run } from '../harness/command.ts';
import { type ReportedError, Sandbox, verfsProgram } from '../harness/sandbox.ts';

const minutes = 60_000;

/** The commands that do something. */
const all = (await commandModels()).flatMap((model) => (model.commands.length === 0 ? [model] : model.commands));

let sandbox: Sandbox;

beforeEach(() => {
  sandbox = new Sandbox();
});

afterEach(() => sandbox[Symbol.asyncDispose]());

/** How a command is called, and what of its answer is not as with most. */
interface Call {
  /** `snapshot create`. */
  readonly words: string;
  readonly args?: readonly string[];
  readonly input?: string;
  /** A file that is its standard input. */
  readonly from?: string;
  /** One document for each thing that it tells, which its page says, instead of one for all. */
  readonly form?: 'lines';
  readonly code?: number;
  /** What a command that it runs may write to standard error. */
  readonly stderr?: string;
}

const call = (words: string, ...args: string[]): Call => ({ words, args });

function json({ words, args = [], input = '', from = '' }: Call): Promise<Outcome> {
  const at = args.indexOf('--');
  const given = at < 0 ? [...args, '--json'] : [...args.slice(0, at), '--json', ...args.slice(at)];
  const command = [...words.split(' '), ...given];
  const options = { cwd: sandbox.root, env: sandbox.env, input };
  return from === ''
    ? sandbox.verfs(command, options)
    : run(
        'sh',
        ['-c', 'from=$1; shift; exec "$@" < "$from"', 'sh', from, process.execPath, verfsProgram, ...command],
        options,
      );
}

/** The documents in `stdout`: each is a line, and there is nothing beside them. */
function documents(stdout: string): object[] {
  const lines = stdout.split('\n');
  expect(lines.pop()).toBe('');
  return lines.map((line) => JSON.parse(line) as object);
}

test(
  'every command answers with one document, or one in each line, and nothing beside it',
  async () => {
    const { volume, mountpoint, root } = sandbox;
    const other = sandbox.path('other');
    mkdirSync(sandbox.path('source'));
    writeFileSync(sandbox.path('source', 'file'), 'content');
    const crypt = (...args: string[]): Call => ({
      words: 'crypt',
      args: [mountpoint, '--password-stdin', ...args],
      input: 'first\nsecond\n',
    });
    const service = [mountpoint, '--user', '--no-start'];
    const noisy = ['sh', '-c', 'echo said by the command; exit 3'];
    /** Those of one step don't get in each other's way. */
    const steps: readonly (readonly Call[])[] = [
      [call('volume create', volume), call('volume create', other), call('completion', 'bash'), call('config show')],
      [call('fsck', '--volume', volume), call('service install', ...service)],
      [call('mount', mountpoint, '--volume', volume), call('service remove', mountpoint, '--user')],
      [
        call('status', mountpoint),
        call('stats', mountpoint),
        call('du', mountpoint),
        call('dedup-report', mountpoint),
        { ...call('top', mountpoint, '--count', '2', '--interval', '100ms'), form: 'lines' },
        call('volume info', mountpoint),
        // What it says of this machine is no matter here.
        { ...call('doctor', mountpoint), code: Number.NaN },
        call('config set', 'daemon.log_level', 'debug', '--volume', volume),
        call('config reload', '--volume', volume),
        call('policy show', '--volume', volume),
        crypt('-c'),
        call('import', 'source', '--volume', volume),
      ],
      [
        crypt('-u', '--auto-lock', '1h'),
        call('snapshot create', 'one', '--volume', volume),
        call('policy set', '--schedule', 'hourly', '--volume', volume),
      ],
      [
        crypt('--status'),
        crypt('--auto-lock', 'off'),
        call('export', 'one:source', sandbox.path('exported'), '--volume', volume),
        call('snapshot clone', 'one', 'clone', '--volume', volume),
        call('snapshot hold', 'one', '--volume', volume),
      ],
      [
        { ...call('snapshot diff', 'one', '--volume', volume), form: 'lines' },
        call('snapshot list', '--volume', volume),
        call('snapshot release', 'one', '--volume', volume),
        call('sync', mountpoint),
        call('policy run', '--volume', volume),
      ],
      [
        call('gc', mountpoint),
        call('gc', mountpoint, '--dry-run'),
        call('gc', mountpoint, '--now'),
        call('scrub', mountpoint),
        call('scrub', mountpoint, '--now'),
        call('snapshot restore', 'one', 'source', '--to', 'restored', '--volume', volume),
        crypt('-l'),
      ],
      [call('volume freeze', mountpoint)],
      [call('volume thaw', mountpoint)],
      [{ ...call('volume freeze', mountpoint, '--', ...noisy), code: 3, stderr: 'said by the command\n' }],
      [call('snapshot rollback', 'one', '--volume', volume)],
      [{ ...call('receive', '--volume', other), from: sandbox.path('stream') }],
      [call('snapshot delete', 'one', '--volume', volume)],
      [call('unmount', mountpoint)],
    ];
    const done = async ({ form, code = 0, stderr = '', ...how }: Call) => {
      const outcome = await json(how);
      const found = documents(outcome.stdout);
      expect({ how, ...outcome, found: found.length }).toMatchObject({
        how,
        stderr,
        code: Number.isNaN(code) ? expect.any(Number) : code,
        found: form === 'lines' ? expect.any(Number) : 1,
      });
      expect(found.length).toBeGreaterThan(form === 'lines' ? 1 : 0);
    };
    for (const step of steps) {
      if (step.some(({ from }) => from !== undefined)) {
        const sent = `'${process.execPath}' '${verfsProgram}' send one --volume volume > stream`;
        expect(await run('sh', ['-c', sent], { cwd: root, env: sandbox.env })).toMatchObject({ code: 0 });
      }
      await Promise.all(step.map(done));
    }
    const called = new Set(steps.flat().map(({ words }) => words));
    expect(all.map(({ words }) => words).filter((words) => !called.has(words))).toEqual(['send']);
  },
  3 * minutes,
);

test(
  'every command reports an error in one document, with its code, its path and what to do, and nothing beside it',
  async () => {
    const { mountpoint, root } = sandbox;
    const absent = sandbox.path('absent');
    writeFileSync(sandbox.path('there'), '');
    /** Of those that are not called for a volume that there is not. */
    const others: Readonly<Record<string, readonly [code: ErrorCode, ...args: string[]]>> = {
      mount: ['VERFS_E_MOUNTPOINT_MISSING', absent],
      send: ['VERFS_E_USAGE', 'one', '--volume', absent],
      doctor: ['VERFS_E_TARGET_EXISTS', '--bundle', 'there'],
      unmount: ['VERFS_E_NOT_MOUNTED', mountpoint],
      sync: ['VERFS_E_NOT_MOUNTED', mountpoint],
      'dedup-report': ['VERFS_E_NOT_MOUNTED', '--volume', absent],
      top: ['VERFS_E_NOT_MOUNTED', mountpoint],
      completion: ['VERFS_E_USAGE', 'cmd'],
      'config show': ['VERFS_E_CONFIG_KEY', 'absent'],
      'config set': ['VERFS_E_NOT_MOUNTED', 'daemon.log_level', 'debug', '--volume', absent],
      'config reload': ['VERFS_E_NOT_MOUNTED', '--volume', absent],
      'policy set': ['VERFS_E_NOT_A_VOLUME', '--schedule', 'hourly', '--volume', absent],
      'volume create': ['VERFS_E_NOT_A_VOLUME', 'there'],
      'volume freeze': ['VERFS_E_NOT_MOUNTED', '--volume', absent],
      'volume thaw': ['VERFS_E_NOT_MOUNTED', '--volume', absent],
      'service install': ['VERFS_E_USAGE', '--user', '--system'],
      'service remove': ['VERFS_E_SERVICE', mountpoint, '--user'],
    };
    /** Those that are about no place. */
    const placeless: readonly ErrorCode[] = ['VERFS_E_USAGE', 'VERFS_E_CONFIG_KEY'];
    const failing = async ({ words, usage }: (typeof all)[number]) => {
      const names = [...usage.matchAll(/<([a-z]+)/g)].map((match) => match[1] ?? '');
      const [code, ...args] = others[words] ?? (['VERFS_E_NOT_A_VOLUME', ...names, '--volume', absent] as const);
      const outcome = await json({ words, args });
      const [document, ...rest] = documents(outcome.stdout) as { error: ReportedError }[];
      expect({ words, ...outcome, document, rest }).toMatchObject({
        words,
        code: errorTable[code].exitCode,
        stderr: '',
        document: {
          error: {
            code,
            message: expect.stringMatching(/[.:?] \S[^\n]+$/),
            ...(placeless.includes(code) ? {} : { path: expect.stringContaining(root) }),
          },
        },
        rest: [],
      });
    };
    expect(all.length).toBeGreaterThan(35);
    const left = [...all];
    const work = async () => {
      for (let model = left.shift(); model !== undefined; model = left.shift()) {
        await failing(model);
      }
    };
    await Promise.all([work(), work(), work()]);
  },
  2 * minutes,
);
