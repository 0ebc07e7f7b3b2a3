/**
 * `npm run pack -- [DIRECTORY]`: the packages for this machine as files that `npm install` takes, in DIRECTORY or
 * target/packages. Prints what it made as JSON. docs/RELEASING.md has the rest.
 */
import { join, resolve } from 'node:path';
import { prepare } from './prepare.mjs';
import { runScript, step } from './progress.mjs';
import { packMain, packPlatform } from './release/pack.mjs';
import { hostAddon, targets } from './release/targets.mjs';
import { root } from './stamp.mjs';

await runScript(async () => {
  await prepare();
  const [given] = process.argv.slice(2);
  const directory = given === undefined ? join(root, 'target/packages') : resolve(process.env.INIT_CWD ?? '.', given);
  await step('packages', async (at) => {
    at('verfs');
    const main = await packMain(directory);
    const host = targets.find(({ isHost }) => isHost);
    at(host.name);
    const platform = await packPlatform(directory, host, (path) => hostAddon(path, at));
    process.stdout.write(`${JSON.stringify([main, platform])}\n`);
    return `2 in ${directory}`;
  });
});
