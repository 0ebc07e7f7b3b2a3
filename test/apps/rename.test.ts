/** Renaming over a name: whoever looks meanwhile sees the old or the new file, whole, and never none. */
import { closeSync, mkdirSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { run, shell } from '../harness/command.ts';
import { Sandbox } from '../harness/sandbox.ts';

let sandbox: Sandbox;

beforeEach(async () => {
  sandbox = new Sandbox();
  await sandbox.mount();
});

afterEach(() => sandbox[Symbol.asyncDispose]());

/** For `node -e`: what the versions of a file are like, and a loop that ends when `stop` is there. */
const prelude = `
  const fs = require('node:fs');
  const line = (version) => 'version ' + String(version).padStart(9, '0') + '\\n';
  const lines = (version) => 1 + (version * 7919) % 6000;
  const until = (stop, act) => { let count = 0; while (!fs.existsSync(stop)) { act(count); count += 1; } return count; };
  const check = (text, seen) => {
    const version = Number(text.slice(8, 17));
    if (text !== line(version).repeat(lines(version))) {
      throw new Error('a mix of versions, ' + text.length + ' bytes: ' + text.slice(0, 40) + '…' + text.slice(-40));
    }
    if (version < seen) { throw new Error('version ' + version + ' after ' + seen); }
    return version;
  };`;

/** Versions replace each other by rename, each second one with fsync before. Prints how many there were. */
const writer = `${prelude}
  console.log(until('../stop', (version) => {
    const file = fs.openSync('new', 'w');
    fs.writeSync(file, line(version).repeat(lines(version)));
    if (version % 20 === 0) { fs.fsyncSync(file); }
    fs.closeSync(file);
    fs.renameSync('new', 'name');
  }));`;

const readers: Record<string, string> = {
  'reads whole': "seen = check(fs.readFileSync('name', 'utf8'), seen);",
  'reads in pieces what it has open': `
    const file = fs.openSync('name');
    const piece = Buffer.alloc(7000);
    let text = '';
    for (let size = 1; size > 0; ) { size = fs.readSync(file, piece); text += piece.toString('latin1', 0, size); }
    if (fs.fstatSync(file).size !== text.length) { throw new Error('the size is not that of what was read'); }
    fs.closeSync(file);
    seen = check(text, seen);`,
  'asks for the size': `
    const { size, mode } = fs.statSync('name');
    if (size === 0 || size % line(0).length !== 0 || (mode & 0o170000) !== 0o100000) { throw new Error('size ' + size); }`,
  'goes through a link': "seen = check(fs.readFileSync('../elsewhere/link', 'utf8'), seen);",
  lists: "if (!fs.readdirSync('.').includes('name')) { throw new Error('the listing lacks it'); }",
};

test.each([
  ['in one directory', 'new'],
  ['from another directory', '../other/new'],
])('readers of a name that is renamed over %s see old or new', async (_, from) => {
  const directory = sandbox.inMount('d');
  for (const name of ['d', 'other', 'elsewhere']) {
    mkdirSync(sandbox.inMount(name));
  }
  await shell(
    `${node(`${prelude} fs.writeFileSync('name', line(0).repeat(lines(0)))`)}; ln -s ../d/name ../elsewhere/link`,
    {
      cwd: directory,
    },
  );
  const options = { cwd: directory, timeoutMs: 60_000 };
  const reading = Object.values(readers).map((act) =>
    run(process.execPath, ['-e', `${prelude} let seen = 0; console.log(until('../stop', () => { ${act} }));`], options),
  );
  const writing = run(process.execPath, ['-e', writer.replaceAll("'new'", `'${from}'`)], options);
  await run('sleep', ['4']);
  writeFileSync(sandbox.inMount('stop'), '');
  const outcomes = await Promise.all([writing, ...reading]);
  for (const outcome of outcomes) {
    expect(outcome).toMatchObject({ code: 0, stderr: '' });
    expect(Number(outcome.stdout)).toBeGreaterThan(20);
  }
  expect(await shell('ls', { cwd: directory })).toBe('name\n');
});

/** A command of the shell that runs `script` in node. */
function node(script: string): string {
  return `'${process.execPath}' -e '${script.replaceAll("'", `'"'"'`)}'`;
}

test('what was open before keeps the old content, also mapped, and unlinked files have none in the listing', async () => {
  writeFileSync(sandbox.inMount('name'), 'old'.repeat(100_000));
  writeFileSync(sandbox.inMount('new'), 'new');
  const file = openSync(sandbox.inMount('name'), 'r');
  renameSync(sandbox.inMount('new'), sandbox.inMount('name'));
  expect(readFileSync(sandbox.inMount('name'), 'utf8')).toBe('new');
  expect(readFileSync(file, 'utf8')).toBe('old'.repeat(100_000));
  closeSync(file);
  expect(await shell('ls', { cwd: sandbox.mountpoint })).toBe('name\n');
});

test('directories change places in one step', async () => {
  await shell('mkdir -p a/x b; echo 1 > a/x/f; ln -s a current', { cwd: sandbox.mountpoint });
  const reader = `${prelude} console.log(until('stop', () => { if (fs.readFileSync('current/x/f', 'utf8') !== '1\\n') { throw new Error('else'); } }));`;
  const reading = run(process.execPath, ['-e', reader], { cwd: sandbox.mountpoint });
  const swap = `i=0; while [ $i -lt 100 ]; do cp -a a c$i; ln -s c$i next; mv -T next current; i=$((i + 1)); done; touch stop`;
  await shell(swap, { cwd: sandbox.mountpoint });
  expect(await reading).toMatchObject({ code: 0, stderr: '' });
});
