import type { Sandbox } from './sandbox.ts';

/** Makes a vault in a mounted volume, and opens it: it is in `.vault` of the mount. */
export async function unlockNewVault(sandbox: Sandbox): Promise<void> {
  const crypt = (...options: string[]) =>
    sandbox.json(['crypt', sandbox.mountpoint, '--password-stdin', ...options], {
      cwd: sandbox.root,
      input: 'a password of tests\n',
    });
  await crypt('-c');
  await crypt('-u');
}
