#!/usr/bin/env node
import module from 'node:module';

module.enableCompileCache?.();
const { mountProgram } = await import('../dist/mount-program.js');
await mountProgram(process.argv.slice(2));
