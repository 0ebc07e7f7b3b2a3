import { readFileSync } from 'node:fs';

/** Read when the program is loaded: while a daemon runs its package may be replaced by another version, or go. */
const manifest: unknown = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));

/** The version of VerFS that this process runs. */
export function version(): string {
  return (manifest as { version: string }).version;
}
