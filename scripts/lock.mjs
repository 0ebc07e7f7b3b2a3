/**
 * `npm run lock`: brings package-lock.json up to date after a change of dependencies.
 *
 * npm leaves optional packages of other platforms out of the lock file when the registry in use doesn't offer them, and
 * then `npm ci` refuses the file. They are added here from the exact versions that their parents ask for, without a
 * checksum: they are never installed on the platform that they aren't for.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { quietly, runScript, step } from './progress.mjs';
import { root } from './stamp.mjs';

const file = join(root, 'package-lock.json');
const systems = ['android', 'darwin', 'freebsd', 'linux', 'openharmony', 'win32'];
const processors = ['arm', 'arm64', 'ia32', 'loong64', 'ppc64', 'riscv64', 's390x', 'x64', 'wasm32'];

/** The platform that a package is for, as its name says. */
function platformOf(name) {
  const words = name.split(/[-/]/);
  const os = systems.filter((system) => words.includes(system));
  const cpu = processors.filter((processor) => words.includes(processor));
  const libc = words.some((word) => word.startsWith('musl')) ? ['musl'] : [];
  if (cpu.length !== 1) {
    throw new Error(`the name ${name} does not tell its platform`);
  }
  return { cpu, ...(libc.length > 0 ? { libc } : {}), ...(os.length > 0 ? { os } : {}) };
}

function complete(lock) {
  let added = 0;
  for (const [path, { optionalDependencies = {}, dev }] of Object.entries(lock.packages)) {
    for (const [name, version] of Object.entries(optionalDependencies)) {
      const isThere = lock.packages[`${path}/node_modules/${name}`] ?? lock.packages[`node_modules/${name}`];
      if (isThere === undefined && /^\d/.test(version)) {
        lock.packages[`node_modules/${name}`] = {
          version,
          ...platformOf(name),
          ...(dev ? { dev } : {}),
          optional: true,
        };
        added += 1;
      }
    }
  }
  const sorted = Object.entries(lock.packages).sort(([a], [b]) => a.localeCompare(b, 'en'));
  return { lock: { ...lock, packages: Object.fromEntries(sorted) }, added };
}

await runScript(() =>
  step('package-lock.json', async (at) => {
    at('npm install --package-lock-only');
    await quietly('npm', ['install', '--package-lock-only', '--no-audit', '--no-fund'], { cwd: root });
    const { lock, added } = complete(JSON.parse(readFileSync(file, 'utf8')));
    writeFileSync(file, `${JSON.stringify(lock, null, 2)}\n`);
    return `${added} packages of other platforms added`;
  }),
);
