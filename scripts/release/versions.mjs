/** One version everywhere. Node built-ins only. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Hindrance } from '../progress.mjs';
import { root } from '../stamp.mjs';

const read = (path) => readFileSync(join(root, path), 'utf8');

/** Every version in the repository that is not `version`, with its place. */
export function otherVersions(version) {
  const { workspaces } = JSON.parse(read('package.json'));
  const found = [['Cargo.toml', /^version = "([^"]+)"/m.exec(read('Cargo.toml'))?.[1]]];
  for (const path of workspaces) {
    const manifest = JSON.parse(read(`${path}/package.json`));
    found.push([`${path}/package.json`, manifest.version]);
    for (const [name, wanted] of Object.entries(manifest.dependencies ?? {})) {
      if (name.startsWith('@verfs/')) {
        found.push([`${path}/package.json, ${name}`, wanted]);
      }
    }
  }
  return found.filter(([, other]) => other !== version);
}

/** Fails unless all versions are `version`, and CHANGELOG.md has a section for it. */
export function checkVersions(version) {
  const others = otherVersions(version);
  if (others.length > 0) {
    throw new Hindrance(`not ${version}: ${others.map(([place, other]) => `${place} has ${other}`).join('; ')}`);
  }
  if (!new RegExp(`^## ${version.replaceAll('.', '\\.')}( |$)`, 'm').test(read('CHANGELOG.md'))) {
    throw new Hindrance(`CHANGELOG.md has no section for ${version}`);
  }
  return version;
}
