/**
 * `npm run release -- --dry-run`: checks, builds and packs everything that is published, and asks npm what it would do.
 * Without --dry-run it publishes. docs/RELEASING.md is the recipe.
 *
 *   --dry-run              publish nothing; platforms that cannot be built here are named, and left out
 *   --targets NAME,NAME    some platforms, as linux-x64-gnu
 */
import { copyFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { prepare } from './prepare.mjs';
import { Hindrance, quietly, runScript, step } from './progress.mjs';
import { packMain, packPlatform } from './release/pack.mjs';
import { version } from './release/stage.mjs';
import { buildReleaseAddon, hindranceOf, targets } from './release/targets.mjs';
import { checkVersions } from './release/versions.mjs';
import { root } from './stamp.mjs';

const { values: options } = parseArgs({ options: { 'dry-run': { type: 'boolean' }, targets: { type: 'string' } } });
const isDry = options['dry-run'] === true;
const directory = join(root, 'target', 'release-packages');

async function checkTree() {
  const changed = (await quietly('git', ['status', '--porcelain'], { cwd: root })).trim();
  if (changed !== '' && !isDry) {
    throw new Hindrance(`A release is made of what is committed, and this is not:\n${changed}`);
  }
  return changed === '' ? 'nothing but what is committed' : 'not committed as it is: good for a dry run only';
}

function chosenTargets() {
  const names = options.targets?.split(',') ?? targets.map(({ name }) => name);
  const unknown = names.filter((name) => !targets.some((target) => target.name === name));
  if (unknown.length > 0) {
    throw new Hindrance(
      `there is no target ${unknown.join(', ')}; there are ${targets.map(({ name }) => name).join(', ')}`,
    );
  }
  return targets.filter(({ name }) => names.includes(name));
}

const sizes = ({ size, unpackedSize, entryCount }) =>
  `${(size / 2 ** 20).toFixed(2)} MiB packed, ${(unpackedSize / 2 ** 20).toFixed(2)} MiB laid out, ${entryCount} files`;

async function platformPackages() {
  const made = [];
  for (const target of chosenTargets()) {
    await step(`package for ${target.name}`, async (at) => {
      const hindrance = hindranceOf(target);
      if (hindrance !== undefined && !isDry) {
        throw new Hindrance(`${target.name} cannot be built here. It needs ${hindrance}`);
      }
      if (hindrance !== undefined) {
        return `left out: it needs ${hindrance}`;
      }
      const packed = await packPlatform(directory, target, async (path) =>
        copyFileSync(await buildReleaseAddon(target, at), path),
      );
      made.push(packed);
      return sizes(packed);
    });
  }
  return made;
}

/** The bill of materials of what npm installs beside the addon. */
async function writeBillOfMaterials() {
  const said = await quietly('npm', ['sbom', '--omit=dev', '--sbom-format=cyclonedx', '--sbom-type=application'], {
    cwd: root,
  });
  const bill = JSON.parse(said.slice(said.indexOf('{')));
  writeFileSync(join(directory, 'sbom.cdx.json'), `${JSON.stringify(bill, null, 2)}\n`);
  return `${bill.components.length} npm packages`;
}

async function publish(packages) {
  for (const { name, path } of packages) {
    await step(name, async () => {
      const provenance = process.env.ACTIONS_ID_TOKEN_REQUEST_URL === undefined ? [] : ['--provenance'];
      await quietly('npm', ['publish', path, '--access', 'public', ...provenance, ...(isDry ? ['--dry-run'] : [])]);
      return isDry ? 'would be published' : 'published';
    });
  }
}

await runScript(async () => {
  await step('versions', async () => checkVersions(version));
  await step('tree', checkTree);
  await prepare();
  rmSync(directory, { recursive: true, force: true });
  const platforms = await platformPackages();
  let main;
  await step('package verfs', async () => {
    main = await packMain(directory);
    return sizes(main);
  });
  await step('bill of materials', writeBillOfMaterials);
  // First what the main package asks for: who installs it at that moment gets all of it.
  await publish([...platforms, main]);
  process.stdout.write(`verfs ${version}: ${platforms.length + 1} packages in ${directory}\n`);
});
