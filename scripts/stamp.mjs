/** Stamps: whether anything changed since something was built. Node built-ins only. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The root of the repository, without a slash at its end. */
export const root = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '');

const stampDirectory = join(root, 'target', 'stamps');

function* filesOf(path) {
  if (!existsSync(join(root, path))) {
    return;
  }
  if (!statSync(join(root, path)).isDirectory()) {
    yield path;
    return;
  }
  for (const name of readdirSync(join(root, path)).sort()) {
    yield* filesOf(join(path, name));
  }
}

/** Hash over the contents and names of `sources` (files, and directories with all in them) and over `extra`. */
export function hashOf(sources, extra = '') {
  const hash = createHash('sha256').update(extra);
  for (const source of sources) {
    for (const file of filesOf(source)) {
      hash.update(`\0${file}\0`).update(readFileSync(join(root, file)));
    }
  }
  return hash.digest('hex');
}

/** Runs `build` unless it was done for this `hash` and `products` are there. Says whether it was run. */
export async function whenChanged(name, hash, products, build) {
  const stamp = join(stampDirectory, name);
  const isDone = existsSync(stamp) && readFileSync(stamp, 'utf8') === hash;
  if (isDone && products.every((product) => existsSync(join(root, product)))) {
    return false;
  }
  rmSync(stamp, { force: true });
  await build();
  mkdirSync(stampDirectory, { recursive: true });
  writeFileSync(stamp, hash);
  return true;
}
