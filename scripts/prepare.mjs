/** Brings a fresh clone to where `verfs` runs, and does nothing where nothing changed. Node built-ins only. */
import { join } from 'node:path';
import { buildAddon } from './addon.mjs';
import { quietly, step } from './progress.mjs';
import { hashOf, root, whenChanged } from './stamp.mjs';
import { checkNode, checkRust, ensureCompiler, ensureFuse } from './system.mjs';

const packages = ['errors', 'config', 'log', 'native', 'fs', 'snapshots', 'vault', 'sdk', 'cli'];

async function installModules(at) {
  const hash = hashOf(['package-lock.json', 'package.json'], process.versions.modules);
  const done = await whenChanged('npm', hash, ['node_modules/.package-lock.json'], () => {
    at('npm ci');
    return quietly('npm', ['ci', '--no-audit', '--no-fund'], { cwd: root });
  });
  return done ? 'installed' : undefined;
}

async function compileTypeScript() {
  const sources = packages.flatMap((name) => [`packages/${name}/src`, `packages/${name}/tsconfig.json`]);
  const hash = hashOf(['package-lock.json', 'tsconfig.base.json', 'bindings/node/index.d.ts', ...sources]);
  const done = await whenChanged('typescript', hash, ['packages/cli/dist/main.js'], () =>
    quietly(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-b', 'packages/cli'], { cwd: root }),
  );
  return done ? 'compiled' : undefined;
}

/** Checks the machine, installs what can be installed, and builds the addon when it changed. */
export async function prepareAddon() {
  checkNode();
  const rust = checkRust();
  await step('C compiler', ensureCompiler);
  await step('FUSE', ensureFuse);
  await step('npm packages', installModules);
  await step('native addon', (at) => buildAddon(rust, at));
}

/** Checks the machine, installs what can be installed, and builds everything that changed. */
export async function prepare() {
  await prepareAddon();
  await step('TypeScript', compileTypeScript);
}
