/** cargo-deny, in the one version that deny.toml is written for. Node built-ins only. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { quietly } from './progress.mjs';
import { root } from './stamp.mjs';

const version = '0.20.2';
const tools = join(root, 'target', 'tools');

function has(program) {
  const said = spawnSync(program, ['--version'], { encoding: 'utf8' });
  return said.status === 0 && said.stdout.trim() === `cargo-deny ${version}`;
}

/**
 * The program: an installed one of that version, or else one that is built into target/tools, once. A quick build is
 * enough: it reads a few files.
 */
export async function denyProgram(at) {
  const own = join(tools, 'bin', 'cargo-deny');
  for (const program of [own, 'cargo-deny']) {
    if (has(program)) {
      return program;
    }
  }
  const env = {
    ...process.env,
    CARGO_TARGET_DIR: join(tools, 'build'),
    CARGO_PROFILE_RELEASE_OPT_LEVEL: '0',
    CARGO_PROFILE_RELEASE_LTO: 'off',
    CARGO_PROFILE_RELEASE_CODEGEN_UNITS: '16',
    CARGO_PROFILE_RELEASE_DEBUG: '0',
  };
  await quietly('cargo', ['install', '--locked', '--version', version, '--root', tools, 'cargo-deny'], { env, at });
  return own;
}
