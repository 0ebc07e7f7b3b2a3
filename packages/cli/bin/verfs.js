#!/usr/bin/env node
import { existsSync } from 'node:fs';
import module from 'node:module';

// Node 22 and later keep compiled code between runs.
module.enableCompileCache?.();

if (!existsSync(new URL('../dist/main.js', import.meta.url))) {
  process.stderr.write('verfs: it is not built yet. Build it: `npm run build`.\n');
  process.exit(1);
}
const { main } = await import('../dist/main.js');
await main(process.argv.slice(2));
