/** What builds and packs software works in a mount, and gives what it gives elsewhere. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { shell } from '../harness/command.ts';
import { attributesOf, metadataOf } from '../harness/metadata.ts';
import { repository, Sandbox } from '../harness/sandbox.ts';
import { addAttributes, makeSpecimens } from '../harness/specimens.ts';
import { treeOf } from '../harness/tree.ts';

const minutes = 60_000;

let sandbox: Sandbox;

beforeEach(async () => {
  sandbox = new Sandbox();
  await sandbox.mount();
});

afterEach(() => sandbox[Symbol.asyncDispose]());

async function remount(): Promise<void> {
  await sandbox.unmount();
  await sandbox.mount();
}

/** Packages of this project's own node_modules that need no others, about as many as `count`. */
function standalonePackages(count: number): string[] {
  return readdirSync(join(repository, 'node_modules'))
    .filter((name) => /^[a-z]/.test(name))
    .filter((name) => {
      const manifest = JSON.parse(readFileSync(join(repository, 'node_modules', name, 'package.json'), 'utf8'));
      const needs = ['dependencies', 'optionalDependencies', 'peerDependencies'];
      return needs.every((kind) => Object.keys(manifest[kind] ?? {}).length === 0) && manifest.name === name;
    })
    .slice(0, count);
}

test(
  'npm install, from packages and a cache that are in the mount',
  async () => {
    const directory = sandbox.inMount('project');
    mkdirSync(join(directory, 'tarballs'), { recursive: true });
    const env = {
      ...sandbox.env,
      npm_config_cache: sandbox.inMount('cache'),
      npm_config_offline: 'true',
      npm_config_audit: 'false',
      npm_config_fund: 'false',
      npm_config_update_notifier: 'false',
      npm_config_ignore_scripts: 'true',
    };
    const sh = (script: string) => shell(script, { cwd: directory, env, timeoutMs: 2 * minutes });
    const names = standalonePackages(25);
    expect(names.length).toBeGreaterThan(15);
    const sources = names.map((name) => join(repository, 'node_modules', name));
    const packed = JSON.parse(await sh(`npm pack --json --pack-destination tarballs ${sources.join(' ')}`)) as {
      name: string;
      filename: string;
    }[];
    const dependencies = Object.fromEntries(packed.map(({ name, filename }) => [name, `file:tarballs/${filename}`]));
    writeFileSync(join(directory, 'package.json'), JSON.stringify({ name: 'project', version: '1.0.0', dependencies }));
    await sh('npm install');

    const installed = treeOf(join(directory, 'node_modules'));
    const compare = packed.map(
      ({ name, filename }) =>
        `mkdir reference; tar -xzf tarballs/${filename} -C reference --strip-components=1
         diff -r --no-dereference reference node_modules/${name}; rm -r reference`,
    );
    expect(await sh(compare.join('\n'))).toBe('');
    expect(Object.keys(installed).length).toBeGreaterThan(100);
    const requiring = names.map((name) => `import(${JSON.stringify(name)})`).join(', ');
    writeFileSync(
      join(directory, 'all.mjs'),
      `const all = await Promise.allSettled([${requiring}]);
      console.log(all.filter(({ status, reason }) => status === 'rejected' && reason.code === 'ERR_MODULE_NOT_FOUND').length);`,
    );
    await remount();
    expect(treeOf(join(directory, 'node_modules'))).toEqual(installed);
    expect(await sh(`'${process.execPath}' --no-warnings all.mjs`)).toBe('0\n');
    await sh('npm ci');
    expect(Object.keys(treeOf(join(directory, 'node_modules')))).toEqual(Object.keys(installed));
    expect(await sh('npm ls --json > told; npm cache verify >> told; grep -c "Content verified" told')).toBe('1\n');
  },
  5 * minutes,
);

describe('cargo build', () => {
  /** A workspace: a program with a build script, a library, and a macro that the compiler loads from the mount. */
  const files: Record<string, string> = {
    'Cargo.toml': '[workspace]\nresolver = "2"\nmembers = ["program", "library", "derive"]\n',
    'program/Cargo.toml':
      '[package]\nname = "program"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\nlibrary = { path = "../library" }\nderive = { path = "../derive" }\n',
    'program/build.rs':
      'fn main() { let out = std::env::var("OUT_DIR").unwrap(); std::fs::write(format!("{out}/made.rs"), "pub const MADE: u32 = 40;").unwrap(); }',
    'program/src/main.rs':
      'mod made { include!(concat!(env!("OUT_DIR"), "/made.rs")); }\n#[derive(derive::Answer)] struct Question;\nfn main() { println!("{} {}", library::add(made::MADE, 2), Question::answer()); }\n#[test] fn adds() { assert_eq!(library::add(1, 2), 3); }\n',
    'library/Cargo.toml': '[package]\nname = "library"\nversion = "0.1.0"\nedition = "2021"\n',
    'library/src/lib.rs': 'pub fn add(a: u32, b: u32) -> u32 { a + b }\n',
    'derive/Cargo.toml': '[package]\nname = "derive"\nversion = "0.1.0"\nedition = "2021"\n[lib]\nproc-macro = true\n',
    'derive/src/lib.rs':
      'use proc_macro::TokenStream;\n#[proc_macro_derive(Answer)]\npub fn answer(_: TokenStream) -> TokenStream { "impl Question { fn answer() -> &\'static str { \\"macro\\" } }".parse().unwrap() }\n',
  };

  test(
    'builds, tests, and builds again only what changed, also after a remount',
    async () => {
      const directory = sandbox.inMount('workspace');
      for (const [name, content] of Object.entries(files)) {
        mkdirSync(join(directory, name, '..'), { recursive: true });
        writeFileSync(join(directory, name), content);
      }
      const real = process.env['HOME'] ?? homedir();
      const env = {
        ...sandbox.env,
        CARGO_HOME: sandbox.inMount('cargo-home'),
        RUSTUP_HOME: process.env['RUSTUP_HOME'] ?? join(real, '.rustup'),
        CARGO_TARGET_DIR: join(directory, 'target'),
        CARGO_NET_OFFLINE: 'true',
        CARGO_TERM_COLOR: 'never',
      };
      const sh = (script: string) => shell(script, { cwd: directory, env, timeoutMs: 3 * minutes });
      const compiled = async (command: string) =>
        [...(await sh(`${command} 2>&1`)).matchAll(/Compiling (\w+) /g)].map(([, name]) => name).sort();

      expect(await compiled('cargo build')).toEqual(['derive', 'library', 'program']);
      expect(await sh('target/debug/program')).toBe('42 macro\n');
      expect(await sh('cargo test 2>&1')).toMatch(/test adds \.\.\. ok/);
      expect(await compiled('cargo build')).toEqual([]);
      writeFileSync(join(directory, 'library/src/lib.rs'), 'pub fn add(a: u32, b: u32) -> u32 { a + b + 1 }\n');
      await remount();
      expect(await compiled('cargo build')).toEqual(['library', 'program']);
      expect(await sh('target/debug/program')).toBe('43 macro\n');
      expect(await compiled('cargo build')).toEqual([]);
      expect(await sh('cargo clean -q; test ! -e target; ls')).toBe(
        'Cargo.lock\nCargo.toml\nderive\nlibrary\nprogram\n',
      );
    },
    5 * minutes,
  );
});

describe('tar', () => {
  async function roundTrip(options: string, kept: (directory: string) => Promise<string[]>): Promise<void> {
    mkdirSync(sandbox.inMount('from'));
    mkdirSync(sandbox.inMount('to'));
    await makeSpecimens(sandbox.inMount('from'));
    if (options !== '') {
      await addAttributes(sandbox.inMount('from'));
    }
    const sh = (script: string) => shell(script, { cwd: sandbox.mountpoint, env: sandbox.env });
    await sh(`tar ${options} -cf archive.tar --format=posix -C from . 2> told; grep -v 'socket ignored' told || true`);
    await sh(`tar ${options} -xpf archive.tar --same-owner -C to; rm from/socket`);
    const original = await kept(sandbox.inMount('from'));
    expect(original.length).toBeGreaterThan(30);
    expect(await kept(sandbox.inMount('to'))).toEqual(original);
    await remount();
    expect(await kept(sandbox.inMount('to'))).toEqual(original);
    expect(await sh('tar -df archive.tar -C to && echo same')).toBe('same\n');
  }

  test('gives back what it packed', async () => {
    await roundTrip('', metadataOf);
  });

  test('gives back holes, attributes and access control lists', async () => {
    const options = "--xattrs --xattrs-include='*' --acls --sparse";
    await roundTrip(options, async (directory) => [
      ...(await metadataOf(directory)),
      ...(await attributesOf(directory)),
    ]);
    const blocks = await shell('stat -c %b from/d/holes to/d/holes to/d/only-a-hole', { cwd: sandbox.mountpoint });
    expect(
      blocks
        .trim()
        .split('\n')
        .map(Number)
        .filter((count) => count > 1000),
    ).toEqual([]);
  });
});
