import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Volume } from 'verfs';
import { Sandbox, sandboxPrefix } from '../harness/sandbox.ts';

/** How a program may have a volume: what it does with it is the same. */
export const ways = ['opened', 'connected'] as const;

/** A volume of a test, and where its files are. */
export interface Subject extends AsyncDisposable {
  readonly volume: Volume | Awaited<ReturnType<typeof Volume.connect>>;
  /** For what the test writes outside. */
  readonly root: string;
  /** Where the volume is. */
  readonly path: string;
}

/** A new volume, opened in this process, or served by a daemon. */
export async function begin(way: (typeof ways)[number]): Promise<Subject> {
  if (way === 'connected') {
    const sandbox = new Sandbox();
    await sandbox.mount();
    const volume = await Volume.connect(sandbox.volume);
    const dispose = async () => {
      await volume.close();
      await sandbox[Symbol.asyncDispose]();
    };
    return { volume, root: sandbox.root, path: sandbox.volume, [Symbol.asyncDispose]: dispose };
  }
  const root = mkdtempSync(join(tmpdir(), sandboxPrefix));
  const path = join(root, 'volume');
  await Volume.create(path);
  const volume = await Volume.open(path);
  const dispose = async () => {
    await volume.close();
    rmSync(root, { recursive: true, force: true });
  };
  return { volume, root, path, [Symbol.asyncDispose]: dispose };
}
