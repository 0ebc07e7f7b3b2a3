/** Programs that cargo builds from crates.io, each in the one version that this repository is written for. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { quietly } from './progress.mjs';
import { root } from './stamp.mjs';

const tools = join(root, 'target', 'tools');

/** Where programs are that were built here. */
export const toolDirectory = join(tools, 'bin');

/**
 * The program of the crate `name`: an installed one of that version, or else one that is built into target/tools, once.
 * A quick build is enough for tools that test or read a few files.
 */
export async function cargoTool(name, version, at) {
  const own = join(toolDirectory, name);
  for (const program of [own, name]) {
    const said = spawnSync(program, ['--version'], { encoding: 'utf8' });
    if (said.status === 0 && said.stdout.trim() === `${name} ${version}`) {
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
  await quietly('cargo', ['install', '--locked', '--version', version, '--root', tools, name], { env, at });
  return own;
}
