/** `npm run bench`: builds what changed, then runs the benchmarks. Arguments go to benches/run.mjs, or with a name in
 * front, as in `npm run bench:snapshots`, to that one. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { prepare } from './prepare.mjs';
import { runScript } from './progress.mjs';
import { root } from './stamp.mjs';

await runScript(async () => {
  await prepare();
  const [first, ...rest] = process.argv.slice(2);
  const isNamed = first !== undefined && !first.startsWith('-');
  const args = isNamed
    ? [join(root, `benches/${first}.mjs`), ...rest]
    : [join(root, 'benches/run.mjs'), ...process.argv.slice(2)];
  process.exitCode = spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit' }).status ?? 1;
});
