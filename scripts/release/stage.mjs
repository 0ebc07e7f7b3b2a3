/**
 * The packages that are published, laid out in directories. The workspace's packages go into `verfs` as bundled
 * dependencies, so that what was tested is what is shipped: the same files, in the same places to each other. Node
 * built-ins only.
 */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { root } from '../stamp.mjs';
import { addonFile, targets } from './targets.mjs';

const readJson = (path) => JSON.parse(readFileSync(join(root, path), 'utf8'));
const writeJson = (path, value) => writeFileSync(path, `${JSON.stringify(value, null, 2)}\n`);

const rootManifest = readJson('package.json');

/** The version of all packages. */
export const version = rootManifest.version;

/** Name of the package with the addon for `target`. */
export const platformPackage = ({ name }) => `@verfs/bindings-${name}`;

/** What every manifest says. */
const shared = {
  version,
  license: rootManifest.license,
  engines: rootManifest.engines,
  os: rootManifest.os,
  ...(rootManifest.repository === undefined ? {} : { repository: rootManifest.repository }),
};

const workspaces = rootManifest.workspaces.map((path) => ({ path, manifest: readJson(`${path}/package.json`) }));

/** What of a workspace's package is published. */
const parts = ['bin', 'commonjs', 'dist', 'share', 'index.d.ts'];
const isDevelopmentOnly = (path) => path.endsWith('.map') || path.endsWith('.tsbuildinfo');

/** `exports` without what leads to sources, which are not published. */
function publishedExports(exports) {
  return Object.fromEntries(
    Object.entries(exports).map(([name, conditions]) => {
      return [
        name,
        typeof conditions === 'string'
          ? conditions
          : Object.fromEntries(Object.entries(conditions).filter(([condition]) => condition !== 'dev')),
      ];
    }),
  );
}

function stageWorkspace({ path, manifest }, into) {
  const directory = join(into, 'node_modules', manifest.name);
  mkdirSync(directory, { recursive: true });
  for (const part of parts.filter((name) => existsSync(join(root, path, name)))) {
    cpSync(join(root, path, part), join(directory, part), {
      recursive: true,
      filter: (source) => !isDevelopmentOnly(source),
    });
  }
  const { private: _, napi: __, exports, ...rest } = manifest;
  writeJson(join(directory, 'package.json'), {
    ...rest,
    ...(exports === undefined ? {} : { exports: publishedExports(exports) }),
  });
}

/** Where a file of the repository that the main manifest names is in the package. */
function placeOf(file) {
  const workspace = workspaces.find(({ path }) => file.startsWith(`./${path}/`) || file.startsWith(`${path}/`));
  return file.replace(/^\.\//, '').replace(workspace.path, `node_modules/${workspace.manifest.name}`);
}

/** A file at `at` of the package that stands for `file`: a manifest may not lead into node_modules. */
function standIn(into, at, file) {
  // Types are imported by the name of the module that they are of.
  const module = placeOf(file).replace(/\.d(\.c?)ts$/, '$1js');
  const target = `./${'../'.repeat(at.split('/').length - 1)}${module}`;
  const body = file.endsWith('.cjs') ? `module.exports = require('${target}');\n` : `export * from '${target}';\n`;
  mkdirSync(dirname(join(into, at)), { recursive: true });
  writeFileSync(join(into, at), body);
}

/** The exports of the main package, with files that stand for those of the workspace. */
function stageExports(into) {
  return Object.fromEntries(
    Object.entries(publishedExports(rootManifest.exports)).map(([name, conditions]) => {
      const stem = name === '.' ? 'index' : name.slice(2).replaceAll('/', '-');
      const place = (file) => {
        const at = `lib/${stem}${/(\.d)?\.c?[jt]s$/.exec(file)[0]}`;
        standIn(into, at, file);
        return `./${at}`;
      };
      const places = (of) =>
        Object.fromEntries(
          Object.entries(of).map(([condition, to]) => [condition, typeof to === 'string' ? place(to) : places(to)]),
        );
      return [name, places(conditions)];
    }),
  );
}

function stagePrograms(into) {
  return Object.fromEntries(
    Object.entries(rootManifest.bin).map(([name, file]) => {
      const at = `bin/${basename(file)}`;
      mkdirSync(join(into, 'bin'), { recursive: true });
      writeFileSync(join(into, at), `#!/usr/bin/env node\nimport '../${placeOf(file)}';\n`, { mode: 0o755 });
      return [name, at];
    }),
  );
}

/** The man pages, which npm links for man(1) when it installs the package globally. */
function stageManPages(into) {
  const pages = join(root, 'packages/cli/share/man');
  cpSync(pages, join(into, 'man'), { recursive: true });
  return readdirSync(pages).map((name) => `./man/${name}`);
}

/** Dependencies on packages of others: the exact versions that the workspace is tested with. */
function foreignDependencies() {
  const all = workspaces.flatMap(({ manifest }) => Object.entries(manifest.dependencies ?? {}));
  const foreign = all.filter(([name]) => !workspaces.some(({ manifest }) => manifest.name === name));
  return Object.fromEntries(foreign.sort(([a], [b]) => a.localeCompare(b, 'en')));
}

/** Files that every package has. */
function stageDocuments(into, names) {
  for (const name of names) {
    cpSync(join(root, name), join(into, basename(name)));
  }
}

/** Lays out the main package in `into`. TypeScript has been compiled. */
export function stageMain(into) {
  rmSync(into, { recursive: true, force: true });
  mkdirSync(into, { recursive: true });
  for (const workspace of workspaces) {
    stageWorkspace(workspace, into);
  }
  stageDocuments(into, ['README.md', 'CHANGELOG.md', 'LICENSE-MIT', 'LICENSE-APACHE']);
  const bundled = workspaces.map(({ manifest }) => manifest.name);
  writeJson(join(into, 'package.json'), {
    name: rootManifest.name,
    description: rootManifest.description,
    keywords: ['filesystem', 'fuse', 'deduplication', 'compression', 'encryption', 'snapshots'],
    ...shared,
    cpu: [...new Set(targets.map(({ cpu }) => cpu))],
    type: 'module',
    bin: stagePrograms(into),
    man: stageManPages(into),
    exports: { ...stageExports(into), './package.json': './package.json' },
    dependencies: { ...foreignDependencies(), ...Object.fromEntries(bundled.map((name) => [name, version])) },
    bundleDependencies: bundled,
    optionalDependencies: Object.fromEntries(targets.map((target) => [platformPackage(target), version])),
  });
}

/** Lays out the package of `target` in `into`, less the addon itself: returns where that has to go. */
export function stagePlatform(target, into, { notices, billOfMaterials }) {
  rmSync(into, { recursive: true, force: true });
  mkdirSync(into, { recursive: true });
  stageDocuments(into, ['LICENSE-MIT', 'LICENSE-APACHE']);
  writeFileSync(join(into, 'THIRD-PARTY-NOTICES.txt'), notices);
  writeJson(join(into, 'sbom.cdx.json'), billOfMaterials);
  const file = addonFile(target);
  writeFileSync(
    join(into, 'README.md'),
    `# ${platformPackage(target)}\n\nThe native part of verfs for ${target.rust}. Install \`verfs\` instead.\n`,
  );
  writeJson(join(into, 'package.json'), {
    name: platformPackage(target),
    description: `The engine of verfs for ${target.rust}`,
    ...shared,
    cpu: [target.cpu],
    libc: [target.libc],
    main: file,
    files: [file, 'THIRD-PARTY-NOTICES.txt', 'sbom.cdx.json', 'LICENSE-MIT', 'LICENSE-APACHE'],
  });
  return join(into, file);
}
