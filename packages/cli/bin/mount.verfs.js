#!/usr/bin/env node
import module from 'node:module';

module.enableCompileCache?.();
const { mountHelper } = await import('../dist/mount-helper.js');
await mountHelper(process.argv.slice(2));
