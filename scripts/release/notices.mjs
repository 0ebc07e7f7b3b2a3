/**
 * What else is in the addon: the crates that are compiled into it, with their licences and as a bill of materials.
 * Node built-ins only.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Hindrance } from '../progress.mjs';
import { root } from '../stamp.mjs';

const addonCrate = 'verfs-node';
const licenceFile = /^(LICEN[CS]E|COPYING|COPYRIGHT|NOTICE|UNLICENSE)/i;

function metadata(rustTarget) {
  const args = ['metadata', '--locked', '--format-version', '1', '--filter-platform', rustTarget];
  const said = spawnSync('cargo', args, { cwd: root, encoding: 'utf8', maxBuffer: 256 << 20 });
  if (said.status !== 0) {
    throw new Hindrance(said.stderr.trim());
  }
  return JSON.parse(said.stdout);
}

/** The crates of others that the addon for `rustTarget` contains, by name. Those that only build it are not in it. */
export function cratesOf(rustTarget) {
  const { packages, resolve } = metadata(rustTarget);
  const byId = new Map(packages.map((one) => [one.id, one]));
  const nodes = new Map(resolve.nodes.map((node) => [node.id, node]));
  const found = new Set();
  const isProcMacro = (id) => byId.get(id).targets.some(({ kind }) => kind.includes('proc-macro'));
  const visit = (id) => {
    if (found.has(id) || isProcMacro(id)) {
      return;
    }
    found.add(id);
    for (const { pkg, dep_kinds: kinds } of nodes.get(id).deps) {
      if (kinds.some(({ kind }) => kind === null)) {
        visit(pkg);
      }
    }
  };
  visit(packages.find(({ name, source }) => name === addonCrate && source === null).id);
  return [...found]
    .map((id) => byId.get(id))
    .filter(({ source }) => source !== null)
    .sort((a, b) => a.name.localeCompare(b.name, 'en') || a.version.localeCompare(b.version, 'en'));
}

/** Files with the licences of a C library: of zstd's two the one that is not the GPL, which is its COPYING. */
function libraryLicences(directory) {
  const names = readdirSync(directory).filter((name) => licenceFile.test(name));
  const chosen = names.filter((name) => !/^COPYING/i.test(name));
  return chosen.length > 0 ? chosen : names;
}

/** The licence texts that come with a crate, and with a C library that is a directory in it. */
function textsOf(crate) {
  const directory = dirname(crate.manifest_path);
  const entries = readdirSync(directory, { withFileTypes: true });
  const names = entries.flatMap((entry) => {
    if (entry.isDirectory()) {
      return libraryLicences(join(directory, entry.name)).map((name) => join(entry.name, name));
    }
    return licenceFile.test(entry.name) ? [entry.name] : [];
  });
  const named = crate.license_file === null ? [] : [crate.license_file];
  return [...new Set([...names, ...named])]
    .map((name) => join(directory, name))
    .filter((path) => existsSync(path))
    .flatMap((path) => {
      try {
        return [readFileSync(path, 'utf8').trim()];
      } catch {
        // A directory of that name.
        return [];
      }
    });
}

/** The notices that the licences of `crates` ask for, each text once, after the names of those that it is for. */
export function licenceNotices(crates) {
  const byText = new Map();
  for (const crate of crates) {
    const texts = textsOf(crate);
    for (const text of texts.length > 0 ? texts : [`(${crate.license}; the crate comes without the text)`]) {
      const key = createHash('sha256').update(text.replaceAll(/\s+/g, ' ')).digest('hex');
      const entry = byText.get(key) ?? { text, crates: [] };
      entry.crates.push(`${crate.name} ${crate.version} (${crate.license ?? 'see the text'})`);
      byText.set(key, entry);
    }
  }
  const head = `The addon of VerFS contains these ${crates.length} crates, under the licences below.\n`;
  const parts = [...byText.values()].map(
    ({ text, crates: names }) => `${'-'.repeat(80)}\n${names.join('\n')}\n\n${text}\n`,
  );
  return [head, ...parts].join('\n');
}

/** A bill of materials of the addon, in the form of CycloneDX 1.5. */
export function addonBillOfMaterials(crates, version) {
  return {
    bomFormat: 'CycloneDX',
    specVersion: '1.5',
    version: 1,
    metadata: { component: { type: 'library', name: addonCrate, version, 'bom-ref': addonCrate } },
    components: crates.map(({ name, version: crateVersion, license, repository }) => {
      const purl = `pkg:cargo/${name}@${crateVersion}`;
      return {
        type: 'library',
        'bom-ref': purl,
        name,
        version: crateVersion,
        purl,
        ...(license === null ? {} : { licenses: [{ expression: license.replaceAll('/', ' OR ') }] }),
        ...(repository === null ? {} : { externalReferences: [{ type: 'vcs', url: repository }] }),
      };
    }),
  };
}
