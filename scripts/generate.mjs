/** `npm run generate`: writes the generated files that are committed. Tests compare them with their sources. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { addonTypes } from './addon.mjs';
import { prepare, prepareAddon } from './prepare.mjs';
import { runScript } from './progress.mjs';
import { root } from './stamp.mjs';

await runScript(async () => {
  // TypeScript compiles against the types of the addon.
  await prepareAddon();
  writeFileSync(join(root, 'bindings/node/index.d.ts'), await addonTypes());
  await prepare();
  const { errorsMarkdown } = await import('../packages/errors/dist/index.js');
  const { configMarkdown } = await import('../packages/config/dist/index.js');
  writeFileSync(join(root, 'docs/ERRORS.md'), errorsMarkdown());
  writeFileSync(join(root, 'docs/CONFIG.md'), configMarkdown());
});
