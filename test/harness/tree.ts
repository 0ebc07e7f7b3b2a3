import { createHash } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';

/** Every file below `directory` with its mode, size and SHA-256, but for `except` and what is in them. */
export function treeOf(directory: string, except: readonly string[] = []): Record<string, string> {
  const tree: Record<string, string> = {};
  const walk = (path: string) => {
    if (except.includes(path)) {
      return;
    }
    const stat = lstatSync(path);
    const mode = stat.mode.toString(8);
    if (stat.isDirectory()) {
      tree[path] = mode;
      for (const name of readdirSync(path).sort()) {
        walk(join(path, name));
      }
    } else if (stat.isSymbolicLink()) {
      tree[path] = `${mode} -> ${readlinkSync(path)}`;
    } else if (stat.isFile()) {
      tree[path] = `${mode} ${stat.size} ${createHash('sha256').update(readFileSync(path)).digest('hex')}`;
    } else {
      tree[path] = mode;
    }
  };
  walk(directory);
  return tree;
}
