/** Snapshots as streams, as a user sees them: `verfs send` and `verfs receive`, between real volumes. */
import { copyFileSync, existsSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { Volume } from 'verfs';
import { formatBytes } from '../../packages/cli/src/format.ts';
import { runtimeDirectory } from '../../packages/sdk/src/registry.ts';
import { type Outcome, run, shell } from '../harness/command.ts';
import { repository, Sandbox, until, verfsProgram } from '../harness/sandbox.ts';

let source: Sandbox;
let target: Sandbox;

beforeEach(async () => {
  source = new Sandbox();
  target = new Sandbox();
  await source.mount();
});

afterEach(async () => {
  await source[Symbol.asyncDispose]();
  await target[Symbol.asyncDispose]();
});

/** `verfs WORDS`, for a script. */
const command = (...words: string[]) => [process.execPath, verfsProgram, ...words].map((word) => `'${word}'`).join(' ');

/** Runs a script in which `verfs` finds the daemons of both sandboxes. */
const script = (text: string) => run('bash', ['-o', 'pipefail', '-c', text], { env: source.env });

const send = (...words: string[]) => command('send', ...words, '--volume', source.volume);
const receive = (...words: string[]) => command('receive', ...words, '--volume', target.volume);

async function succeeds(text: string): Promise<Outcome> {
  const outcome = await script(text);
  expect({ code: outcome.code, stderr: outcome.stderr }).toEqual({ code: 0, stderr: '' });
  return outcome;
}

/** The exit code and the message of what has to fail. */
async function failure(text: string): Promise<[number, string]> {
  const { code, stdout, stderr } = await script(text);
  expect(stdout).toBe('');
  return [code, stderr.trim()];
}

const snapshot = (name: string) => source.json(['snapshot', 'create', name, '--volume', source.volume]);

async function fill(): Promise<void> {
  const text = `
    mkdir -p deep/er && cp -a ${repository}/packages/errors/src deep/code
    head -c 3000000 /dev/urandom > random && ln random deep/hard && ln -s ../random deep/soft
    truncate -s 5M sparse && mkfifo deep/pipe && chmod 2750 deep && setfattr -n user.tag -v value random
    echo doomed > doomed && touch -d @1000000000.5 deep/code`;
  await shell(text, { cwd: source.mountpoint });
}

const scramble = () =>
  shell(
    `rm doomed && mv deep/code moved && echo more >> random && truncate -s 9M sparse && mkdir new &&
     head -c 400000 /dev/urandom > new/noise && setfattr -n user.tag -v other random && chmod 700 deep`,
    { cwd: source.mountpoint },
  );

const sums = (directory: string) => shell('find . -type f -print0 | sort -z | xargs -0 sha256sum', { cwd: directory });

/** Both mounts show the same. */
async function expectSame(): Promise<void> {
  const itemized = `rsync -n -aHAX --checksum --delete --itemize-changes '${source.mountpoint}/' '${target.mountpoint}/'`;
  expect(await shell(itemized)).toBe('');
  expect(await sums(target.mountpoint)).toBe(await sums(source.mountpoint));
}

const namesAt = async (sandbox: Sandbox) => {
  const { snapshots } = await sandbox.json<{ snapshots: { name: string }[] }>([
    'snapshot',
    'list',
    '--volume',
    sandbox.volume,
  ]);
  return snapshots.map(({ name }) => name);
};

/** Fills the source and makes the files `one` and `two` of its snapshots. */
async function streams(): Promise<{ one: string; two: string }> {
  const [one, two] = [source.path('one'), source.path('two')];
  await fill();
  await snapshot('one');
  await scramble();
  await snapshot('two');
  await succeeds(`${send('one')} > ${one}; ${send('two', '--from', 'one')} > ${two}`);
  return { one, two };
}

test('a whole snapshot and what follows it make an identical tree, through pipes, mounted', async () => {
  await target.mount();
  await fill();
  await snapshot('one');
  const first = await succeeds(`${send('one')} | ${receive()}`);
  expect(first.stdout).toMatch(/^Received snapshot one, [\d.]+ MiB\.\n$/);
  await expectSame();
  await scramble();
  await snapshot('two');
  const second = await succeeds(`${send('two', '--from', 'one')} | ${receive('--json')}`);
  expect(JSON.parse(second.stdout)).toMatchObject({ snapshot: { name: 'two' }, bytes: expect.any(Number) });
  await expectSame();
  expect(await namesAt(target)).toEqual(['one', 'two']);
  await target.unmount();
  await target.mount();
  await expectSame();
});

test('the same through files, between volumes that are not mounted', async () => {
  const { one, two } = await streams();
  await source.unmount();
  const again = source.path('again');
  await succeeds(`${send('one')} > ${again}`);
  expect(readFileSync(again).equals(readFileSync(one))).toBe(true);
  await target.json(['volume', 'create', target.volume]);
  await succeeds(`${receive()} < ${one} && ${receive()} < ${two}`);
  await source.mount();
  await target.mount();
  await expectSame();
});

test('an altered stream and a stream that is cut are refused, change nothing, and can be gone on with', async () => {
  const { one, two } = await streams();
  await target.mount();
  await succeeds(`${receive()} < ${one}`);
  const before = await sums(target.mountpoint);

  const altered = source.path('altered');
  const bytes = readFileSync(two);
  const middle = bytes.length >> 1;
  bytes[middle] = (bytes[middle] ?? 0) ^ 1;
  writeFileSync(altered, bytes);
  expect(await failure(`${receive()} < ${altered}`)).toEqual([64, expect.stringContaining('is damaged')]);
  expect(await sums(target.mountpoint)).toBe(before);
  expect(await namesAt(target)).toEqual(['one']);

  const cut = source.path('cut');
  copyFileSync(two, cut);
  truncateSync(cut, statSync(two).size - 100_000);
  const [code, message] = await failure(`${receive()} < ${cut}`);
  const token = /--resume ([0-9a-f]{32}:\d+)/.exec(message)?.[1] ?? '';
  expect([code, token]).toEqual([64, expect.stringContaining(':')]);
  expect(await sums(target.mountpoint)).toBe(before);
  expect(await namesAt(target)).toEqual(['one']);

  // What came is kept, also by a daemon that comes later.
  await target.unmount();
  await target.mount();
  const told = await succeeds(receive('--status', '--json'));
  expect(JSON.parse(told.stdout)).toEqual({ resume: token });
  const rest = source.path('rest');
  await succeeds(`${send('two', '--from', 'one', '--resume', token)} > ${rest} && ${receive()} < ${rest}`);
  expect(statSync(rest).size).toBeLessThan(statSync(two).size);
  await expectSame();
  expect((await succeeds(receive('--status'))).stdout).toBe('No stream was cut.\n');
  expect(await failure(`${send('one', '--resume', token)}`)).toEqual([65, expect.stringContaining('token')]);
});

test('a receiver that is killed leaves a volume as it was, nothing beside its socket, and what came', async () => {
  const { one } = await streams();
  await target.mount();
  const sockets = () => readdirSync(runtimeDirectory()).filter((name) => name.startsWith('stream-'));
  const before = sockets();
  const bytes = statSync(one).size;
  const spool = target.path('volume', 'receive');
  const arrived = `until [ "$(cat '${spool}'/*.part 2>/dev/null | wc -c)" -gt 2000000 ]; do sleep 0.05; done`;
  // The pipe stays open: the script has its end.
  const pipe = target.path('pipe');
  const ended = await script(
    `mkfifo '${pipe}'; ${receive()} < '${pipe}' & exec 3> '${pipe}'; head -c ${bytes - 1000} '${one}' >&3
     ${arrived}; kill -KILL $!; wait $! 2> /dev/null || true`,
  );
  expect(ended.stdout).toBe('');
  let token: string | null = null;
  await until('the daemon has noticed', async () => {
    token = JSON.parse((await succeeds(receive('--status', '--json'))).stdout).resume;
    return token !== null;
  });
  expect(sockets()).toEqual(before);
  expect([await namesAt(target), readdirSync(target.mountpoint)]).toEqual([[], []]);
  await succeeds(`${send('one', '--resume', token ?? '')} | ${receive()}`);
  expect(await namesAt(target)).toEqual(['one']);
});

test('a stream that does not fit is refused; --rollback undoes what is in its way', async () => {
  const { one, two } = await streams();
  await target.mount();
  expect(await failure(`${receive()} < ${two}`)).toEqual([65, expect.stringContaining('does not fit')]);
  await succeeds(`${receive()} < ${one}`);
  expect(await failure(`${receive()} < ${one}`)).toEqual([65, expect.stringContaining('already')]);
  await shell('echo mine > own && rm random', { cwd: target.mountpoint });
  const before = await sums(target.mountpoint);
  expect(await failure(`${receive()} < ${two}`)).toEqual([65, expect.stringContaining('changed')]);
  expect(await sums(target.mountpoint)).toBe(before);
  await succeeds(`${receive('--rollback')} < ${two}`);
  expect(existsSync(target.inMount('own'))).toBe(false);
  await expectSame();
});

test('what cannot be sent or received is told in one line', async () => {
  await fill();
  await snapshot('one');
  await snapshot('two');
  await target.mount();
  expect(await failure(send('none'))).toEqual([60, expect.stringContaining('no snapshot none')]);
  expect(await failure(send('two', '--from', 'none'))).toEqual([60, expect.stringContaining('no snapshot none')]);
  expect(await failure(send('one', '--from', 'two'))).toEqual([2, expect.stringContaining('older')]);
  expect(await failure(send('one', '--resume', 'nonsense'))).toEqual([2, expect.stringContaining('nonsense')]);
  expect(await failure(`${receive()} < /dev/null`)).toEqual([64, expect.stringContaining('nothing came')]);
  expect(await failure(`${receive()} < ${verfsProgram}`)).toEqual([64, expect.stringContaining('no stream')]);
  expect((await script(`${send('one', '--json')}`)).code).toBe(2);
  expect((await script(`${receive('--status', '--rollback')}`)).code).toBe(2);
  // A terminal is no place for a stream.
  const terminal = await script(`script -qec "${send('one').replaceAll("'", '')}" /dev/null`);
  expect([terminal.code, terminal.stdout]).toEqual([2, expect.stringContaining('terminal')]);
  // Who reads goes away in the middle.
  const [code, message] = await failure(`${send('one')} | head -c 1000 > /dev/null`);
  expect([code, message]).toEqual([expect.any(Number), expect.stringContaining('cannot be written')]);
  expect(message.split('\n').length).toBe(1);
  expect(await namesAt(target)).toEqual([]);
});

test('a program sends from a volume of its own to one that a daemon serves, and ends what it began', async () => {
  await fill();
  await snapshot('one');
  await source.unmount();
  await target.mount();
  {
    await using from = await Volume.open(source.volume);
    await using to = await Volume.connect(target.volume);
    const stop = new AbortController();
    const ended = from.snapshots.send('one', {
      signal: stop.signal,
      onProgress: () => stop.abort(),
    });
    await expect(ended.toArray()).rejects.toMatchObject({ code: 'VERFS_E_CANCELLED' });
    let seen = 0;
    const received = await to.snapshots.receive(from.snapshots.send('one'), {
      onProgress: (bytes) => {
        seen = bytes;
      },
    });
    expect([received.name, seen > 3_000_000]).toEqual(['one', true]);
    expect(await to.snapshots.interruptedReceive()).toBe(null);
    // What the caller's own function throws is what he gets.
    const onProgress = () => {
      throw new RangeError('of the caller');
    };
    await expect(from.snapshots.send('one', { onProgress }).toArray()).rejects.toThrow('of the caller');
    await expect(to.snapshots.receive(from.snapshots.send('one'), { onProgress })).rejects.toThrow('of the caller');
  }
  await source.mount();
  await expectSame();
});

describe('how far a transfer is', () => {
  test('the library tells as what went through, up to all of it', async () => {
    const { one } = await streams();
    const { size } = statSync(one);
    await target.mount();
    await using from = await Volume.connect(source.volume);
    await using to = await Volume.connect(target.volume);
    const [sent, received]: [number[], number[]] = [[], []];
    const expectWhole = (figures: readonly number[], whole: number) => {
      expect(figures.length).toBeGreaterThan(3);
      expect(figures.every((bytes, index) => bytes > (figures[index - 1] ?? 0))).toBe(true);
      expect(figures.at(-1)).toBe(whole);
    };
    const stream = from.snapshots.send('one', { onProgress: (bytes) => sent.push(bytes) });
    await to.snapshots.receive(stream, { onProgress: (bytes) => received.push(bytes) });
    expectWhole(sent, size);
    expectWhole(received, size);

    // Of one that was cut: what goes through.
    const cut = source.path('cut');
    copyFileSync(source.path('two'), cut);
    truncateSync(cut, 100_000);
    expect((await failure(`${receive()} < ${cut}`))[0]).toBe(64);
    const resume = (await to.snapshots.interruptedReceive()) ?? '';
    const rest: number[] = [];
    const again = from.snapshots.send('two', { from: 'one', resume, onProgress: (bytes) => rest.push(bytes) });
    await to.snapshots.receive(again);
    const skipped = Number(resume.split(':')[1]);
    expectWhole(rest, 32 + statSync(source.path('two')).size - skipped);
  });

  /** The amounts that a command in a script writes on a terminal behind `verb`. */
  async function amounts(verb: string, text: string): Promise<string[]> {
    const file = source.path('script');
    writeFileSync(file, text);
    const shown = source.path('shown');
    writeFileSync(shown, '');
    const { code, stdout } = await script(`script -qefc "bash -o pipefail '${file}'" '${shown}'`);
    expect({ code, stdout: code === 0 ? '' : stdout }).toEqual({ code: 0, stdout: '' });
    return [...stdout.matchAll(new RegExp(`${verb}: ([^,\\r]+), [^,]+/s`, 'g'))].map(([, amount]) => amount ?? '');
  }

  /** A command that ends a moment after the terminal shows a line with this in it. */
  const shows = (what: string) => `until grep -q '${what}' '${source.path('shown')}'; do sleep 0.2; done; sleep 1.5`;

  test('is a line on a terminal, and its last words are the whole', async () => {
    const { one, two } = await streams();
    const { pid } = await target.mount();
    const { size } = statSync(one);
    const half = size >> 1;

    const taken = `{ head -c ${half} > /dev/null; ${shows('/s, ')}; cat > /dev/null; }`;
    const sent = await amounts('sent', `${send('one')} | ${taken}`);
    expect(sent.length).toBeGreaterThan(2);
    expect(sent[0]).not.toBe(formatBytes(size));
    expect(sent.at(-1)).toBe(formatBytes(size));

    const pieces = `{ head -c ${half} '${one}'; ${shows('/s, ')}; tail -c +${half + 1} '${one}'; } | ${receive()}`;
    const received = await amounts('received', pieces);
    expect(received.length).toBeGreaterThan(2);
    expect(received).toContain(formatBytes(half));
    expect(received.at(-1)).toBe(formatBytes(size));

    // From a file it is known how much there is. The daemon stops until the command has waited long enough to tell.
    const stopped = `kill -STOP ${pid}; (${shows('received: ')}; kill -CONT ${pid}) & ${receive()} < '${two}'`;
    const whole = formatBytes(statSync(two).size);
    expect((await amounts('received', stopped)).at(-1)).toBe(`${whole} of ${whole}`);
  });
});
