/** Packages as files, within their budgets. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Hindrance, quietly } from '../progress.mjs';
import { addonBillOfMaterials, cratesOf, licenceNotices } from './notices.mjs';
import { platformPackage, stageMain, stagePlatform, version } from './stage.mjs';

/** Most that a package may be: as a file, and laid out, in bytes. A package that grows past it has something in it
 * that nobody meant to ship, or the budget is raised by who knows why. */
export const budgets = {
  main: { packedMax: 256 << 10, unpackedMax: 1 << 20 },
  platform: { packedMax: 6 << 20, unpackedMax: 18 << 20 },
};

/** Refuses a package that is over its budget. */
export function checkBudget({ name, size, unpackedSize }, { packedMax, unpackedMax }) {
  if (size > packedMax || unpackedSize > unpackedMax) {
    throw new Hindrance(
      `${name} has ${size} bytes packed and ${unpackedSize} laid out; its budget is ${packedMax} and ${unpackedMax}`,
    );
  }
}

/** Packs what is laid out in `directory` into a file in `into`. Returns what npm says of it, and its path. */
async function pack(directory, into, budget) {
  mkdirSync(into, { recursive: true });
  const said = await quietly('npm', ['pack', '--json', '--silent', '--pack-destination', into, directory]);
  const answer = JSON.parse(said.slice(said.search(/[[{]/)));
  const [packed] = Object.values(answer);
  const { name, filename, size, unpackedSize, entryCount } = packed;
  checkBudget({ name, size, unpackedSize }, budget);
  return { name, version, size, unpackedSize, entryCount, path: join(into, filename) };
}

/** Packs `verfs`. TypeScript has been compiled. */
export async function packMain(directory) {
  const staged = join(directory, 'verfs');
  stageMain(staged);
  return await pack(staged, directory, budgets.main);
}

/** Packs the addon for `target`, which `build` writes to the path that it gets. */
export async function packPlatform(directory, target, build) {
  const staged = join(directory, platformPackage(target).replace('@verfs/', ''));
  const crates = cratesOf(target.rust);
  const notices = licenceNotices(crates);
  const addon = stagePlatform(target, staged, { notices, billOfMaterials: addonBillOfMaterials(crates, version) });
  await build(addon);
  return await pack(staged, directory, budgets.platform);
}
