/** The programs by which mount(8) and umount(8) come to `verfs`: for fstab, and for `mount -t verfs`. */
import { chmodSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { shellQuoted } from '@verfs/errors';

/** Where mount(8) looks for them. */
const directory = '/sbin';

/** Their names there, and which program of ours each is. */
const helpers = {
  'mount.verfs': 'mount',
  'mount.fuse.verfs': 'mount',
  'umount.verfs': 'umount',
  'umount.fuse.verfs': 'umount',
} as const;

/** The text of one: with Node.js by its path, since it is run before anybody has a search path. */
function helperText(what: 'mount' | 'umount'): string {
  const program = fileURLToPath(new URL('../../bin/mount.verfs.js', import.meta.url));
  const words = [process.execPath, program, what].map(shellQuoted).join(' ');
  return `#!/bin/sh\n# Written by \`verfs service install --mount-helper\`.\nexec ${words} "$@"\n`;
}

/** Writes them, and returns their paths. */
export function installPrograms(): string[] {
  return Object.entries(helpers).map(([name, what]) => {
    const path = join(directory, name);
    writeFileSync(path, helperText(what), { mode: 0o755 });
    chmodSync(path, 0o755);
    return path;
  });
}

/** Removes them, and returns their paths. */
export function removePrograms(): string[] {
  return Object.keys(helpers).map((name) => {
    const path = join(directory, name);
    rmSync(path, { force: true });
    return path;
  });
}
