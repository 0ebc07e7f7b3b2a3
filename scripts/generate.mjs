/** `npm run generate`: writes the generated files that are committed. Tests compare them with their sources. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { addonTypes } from './addon.mjs';
import { apiReference } from './api-reference.mjs';
import { commonjs } from './commonjs.mjs';
import { prepare, prepareAddon } from './prepare.mjs';
import { runScript } from './progress.mjs';
import { root } from './stamp.mjs';

/** Man pages and completion scripts of the command. */
async function writeReference() {
  const { generatedFiles } = await import('../packages/cli/dist/reference/index.js');
  const share = join(root, 'packages/cli/share');
  rmSync(share, { recursive: true, force: true });
  for (const [name, text] of Object.entries(await generatedFiles())) {
    mkdirSync(dirname(join(share, name)), { recursive: true });
    writeFileSync(join(share, name), text);
  }
}

await runScript(async () => {
  // TypeScript compiles against the types of the addon.
  await prepareAddon();
  writeFileSync(join(root, 'bindings/node/index.d.ts'), await addonTypes());
  await prepare();
  const errors = await import('../packages/errors/dist/index.js');
  const { configMarkdown } = await import('../packages/config/dist/index.js');
  writeFileSync(join(root, 'docs/ERRORS.md'), errors.errorsMarkdown());
  const { code, types } = commonjs(errors);
  writeFileSync(join(root, 'packages/sdk/commonjs/index.cjs'), code);
  writeFileSync(join(root, 'packages/sdk/commonjs/index.d.cts'), types);
  writeFileSync(join(root, 'docs/API.md'), apiReference());
  writeFileSync(join(root, 'docs/CONFIG.md'), configMarkdown());
  await writeReference();
  const { dashboardJson, metricsMarkdown } = await import('../packages/sdk/dist/metrics/index.js');
  writeFileSync(join(root, 'docs/METRICS.md'), metricsMarkdown());
  writeFileSync(join(root, 'docs/grafana/verfs.json'), dashboardJson());
});
