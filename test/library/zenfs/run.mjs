/**
 * Runs files with cases, each in a process of its own, with Node's test runner: `run.mjs FILE…`. What they run against
 * is the module that the environment variable SETUP names. Prints a line of JSON for each case.
 */
import { basename } from 'node:path';
import { run } from 'node:test';

const files = process.argv.slice(2);
/** Of one file, in milliseconds. */
const timeout = 100_000;
const isFile = new Set(files);

for await (const { type, data } of run({ files, concurrency: 1, timeout })) {
  if (type !== 'test:pass' && type !== 'test:fail') {
    continue;
  }
  const { name, file, details, skip } = data;
  // A file that fails as a whole, before its first case or after its last one, is told as one.
  const isWhole = isFile.has(name);
  if (details?.type === 'suite' || (isWhole && type === 'test:pass')) {
    continue;
  }
  const { cause } = details?.error ?? {};
  const line = {
    file: basename(isWhole ? name : file, '.test.ts'),
    name: isWhole ? '(the file)' : name,
    outcome: skip === undefined ? (type === 'test:pass' ? 'passed' : 'failed') : 'skipped',
    message: cause?.message ?? cause ?? details?.error?.message,
  };
  process.stdout.write(`${JSON.stringify(line)}\n`);
}
