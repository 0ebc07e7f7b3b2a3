import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, test } from '@jest/globals';
import { commands, nameOf } from '../src/commands.ts';
import { generatedFiles } from '../src/reference/index.ts';
import { commandModels } from '../src/reference/model.ts';

const share = fileURLToPath(new URL('../share', import.meta.url));
const manDirectory = join(share, 'man');
const pages = readdirSync(manDirectory);

test('the man pages and completion scripts are what the definitions of the commands say (npm run generate)', async () => {
  const generated = await generatedFiles();
  const there = readdirSync(share, { recursive: true, encoding: 'utf8' }).filter(
    (name) => name.includes('.') || name.includes('/_'),
  );
  expect(there.sort()).toEqual(Object.keys(generated).sort());
  for (const [name, text] of Object.entries(generated)) {
    expect({ name, text: readFileSync(join(share, name), 'utf8') }).toEqual({ name, text });
  }
});

test('every command, option and argument is described', async () => {
  const models = await commandModels();
  expect(models.map(({ words }) => words)).toEqual(commands.map(nameOf));
  const all = models.flatMap((model) => [model, ...model.commands]);
  for (const { words, options, positionals, examples, usage } of all) {
    const parts = [...options, ...positionals];
    expect({ words, silent: parts.filter(({ describe: text }) => text === '') }).toEqual({ words, silent: [] });
    expect({ words, examples: examples.length > 0 }).toEqual({ words, examples: true });
    const named = [...usage.matchAll(/[<[]([a-z]+)/g)].map((match) => match[1]);
    expect({ words, named: positionals.map(({ name }) => name).sort() }).toEqual({ words, named: named.sort() });
  }
});

describe('man pages', () => {
  test.each(pages)('%s is rendered without a warning', async (page) => {
    const { stdout, stderr } = await promisify(execFile)('man', ['--warnings', '-l', join(manDirectory, page)], {
      env: { ...process.env, MANPAGER: 'cat', MANWIDTH: '100', LC_ALL: 'C.UTF-8' },
    });
    expect(stderr).toBe('');
    expect(stdout).toMatch(/NAME\n +verfs/);
    expect(stdout).toContain('SYNOPSIS');
  });

  test('mandoc finds nothing wrong', () => {
    const { stdout } = spawnSync(
      'mandoc',
      ['-T', 'lint', '-W', 'warning', ...pages.map((page) => join(manDirectory, page))],
      {
        encoding: 'utf8',
      },
    );
    // There is no date in them, which would change with every generation.
    expect(stdout.split('\n').filter((line) => line !== '' && !line.includes('missing date'))).toEqual([]);
  });

  test('has all options of a command, with dashes that can be copied', () => {
    const page = readFileSync(join(manDirectory, 'verfs-mount.1'), 'utf8');
    expect(page).toContain('\\fB\\-f\\fR, \\fB\\-\\-foreground\\fR');
    expect(page).toContain('\\fB\\-\\-volume\\fR \\fIVALUE\\fR');
    expect(page).toContain('.SH EXAMPLES');
  });
});

describe('completion', () => {
  /** What bash offers for the last of `words`. */
  function bashOffers(...words: string[]): string[] {
    const script = [
      `source '${join(share, 'completions/verfs.bash')}'`,
      'compopt() { :; }',
      `COMP_WORDS=(verfs ${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length}`,
      // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the shell's.
      '_verfs; printf "%s\\n" "${COMPREPLY[@]}"',
    ].join('\n');
    const { stdout, stderr } = spawnSync('bash', ['--norc', '-c', script], { encoding: 'utf8' });
    expect(stderr).toBe('');
    return stdout.split('\n').filter((line) => line !== '');
  }

  test('of bash offers commands, their options, and their arguments', () => {
    expect(bashOffers('st')).toEqual(['status', 'stats']);
    expect(bashOffers('snapshot', 'r')).toEqual(['rollback', 'restore', 'release']);
    expect(bashOffers('gc', '--')).toEqual(expect.arrayContaining(['--now', '--dry-run', '--volume', '--json']));
    expect(bashOffers('gc', '--')).not.toContain('--from');
    expect(bashOffers('send', 'monday', '--fr')).toEqual(['--from']);
    expect(bashOffers('completion', '')).toEqual(['bash', 'zsh', 'fish']);
    expect(bashOffers('volume', 'create', '/et')).toEqual(['/etc']);
  });

  test('of zsh is taken by it, and completes', () => {
    const directory = mkdtempSync(join(tmpdir(), 'verfs-test-zsh-'));
    try {
      const file = join(share, 'completions/_verfs');
      expect(spawnSync('zsh', ['-n', file], { encoding: 'utf8' })).toMatchObject({ status: 0, stderr: '' });
      writeFileSync(
        join(directory, '.zshrc'),
        `fpath=('${join(share, 'completions')}' $fpath); autoload -U compinit; compinit -u -D; echo $_comps[verfs]`,
      );
      const said = spawnSync('zsh', ['-i', '-c', 'true'], {
        encoding: 'utf8',
        env: { ...process.env, ZDOTDIR: directory },
      });
      expect(said.stdout.trim()).toBe('_verfs');
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });

  test('of fish offers commands, and their options', () => {
    const directory = mkdtempSync(join(tmpdir(), 'verfs-test-fish-'));
    const offers = (line: string) => {
      const script = `source '${join(share, 'completions/verfs.fish')}'; complete --do-complete '${line}'`;
      const env = { ...process.env, HOME: directory, XDG_CONFIG_HOME: directory, XDG_DATA_HOME: directory };
      const { stdout } = spawnSync('fish', ['--no-config', '-c', script], { encoding: 'utf8', env });
      return stdout.split('\n').map((one) => one.split('\t')[0]);
    };
    try {
      expect(offers('verfs snap')).toContain('snapshot');
      expect(offers('verfs snapshot ro')).toContain('rollback');
      expect(offers('verfs gc --dry')).toContain('--dry-run');
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });
});
