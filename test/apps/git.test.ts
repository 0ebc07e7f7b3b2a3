/** Git repositories in a mount: clones, packs and work trees are whole, also after a remount. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { shell } from '../harness/command.ts';
import { repository, Sandbox } from '../harness/sandbox.ts';

const minutes = 60_000;

let sandbox: Sandbox;

beforeEach(async () => {
  sandbox = new Sandbox();
  await sandbox.mount();
  mkdirSync(sandbox.path('upstream'));
});

afterEach(() => sandbox[Symbol.asyncDispose]());

/** Runs commands in a directory of the sandbox, with no settings of the user. */
function sh(directory: string, script: string): Promise<string> {
  const identity = ['AUTHOR', 'COMMITTER'].flatMap((role) => [
    [`GIT_${role}_NAME`, 'Tester'],
    [`GIT_${role}_EMAIL`, 'tester@localhost'],
    [`GIT_${role}_DATE`, '2020-01-01T00:00:00Z'],
  ]);
  const env = { ...sandbox.env, ...Object.fromEntries(identity), GIT_CONFIG_NOSYSTEM: '1' };
  return shell(script, { cwd: join(sandbox.root, directory), env, timeoutMs: 3 * minutes });
}

/** A repository outside of the mount: some commits, branches, a merge, a tag, links and a program. */
async function makeUpstream(): Promise<void> {
  await sh(
    'upstream',
    `git init -q -b main .
     for part in crates packages scripts; do cp -a ${repository}/$part .; git add -A .; git commit -qm "Add $part"; done
     git checkout -qb side HEAD~1; ln -s crates link; printf '#!/bin/sh\\n' > run; chmod +x run; git add -A .; git commit -qm Side
     git checkout -q main; git mv packages moved; git commit -qm Move; git merge -q -m Merge side; git tag -a -m v1 v1
     git rm -rq crates/fuse; git commit -qm Remove`,
  );
}

const state = 'git rev-parse HEAD HEAD^{tree} v1; git rev-list --all | sort; git ls-tree -r HEAD';

test(
  'clone, commit, gc and fsck',
  async () => {
    await makeUpstream();
    const expected = await sh('upstream', state);
    await sh(
      'mnt',
      'git clone -q --no-local ../upstream clone; git clone -q clone linked; git clone -q --mirror clone mirror',
    );
    for (const clone of ['mnt/clone', 'mnt/linked']) {
      expect(await sh(clone, state)).toBe(expected);
      expect(await sh(clone, 'git status --porcelain; diff -r --no-dereference --exclude=.git . ../../upstream')).toBe(
        '',
      );
    }

    await sh(
      'mnt/clone',
      `git config gc.auto 0
       i=0; while [ $i -lt 40 ]; do echo $i > new-$i; echo $i >> Cargo; git add -A; git commit -qm "Commit $i"; i=$((i + 1)); done
       git checkout -qb topic HEAD~20; echo topic > topic; git add -A; git commit -qm Topic; git rebase -q main
       git worktree add -q ../worktree side; git stash list; git push -q origin HEAD:refs/heads/pushed
       git checkout -q main; git merge -q topic; git reflog expire --expire=now --all; git gc -q --prune=now; git fsck --strict --full`,
    );
    expect(await sh('mnt/clone', 'git count-objects -v | grep -E "^(count|garbage|packs):"')).toBe(
      'count: 0\npacks: 1\ngarbage: 0\n',
    );
    const after = await sh('mnt/clone', state);
    expect(await sh('upstream', 'git fsck --full; git rev-parse pushed')).toBe(
      await sh('mnt/clone', 'git rev-parse topic'),
    );

    await sandbox.unmount();
    await sandbox.mount();
    for (const name of ['clone', 'linked', 'mirror', 'worktree']) {
      expect(await sh(`mnt/${name}`, 'git fsck --strict --full --no-dangling')).toBe('');
    }
    expect(await sh('mnt/clone', state)).toBe(after);
    // Without looking into files: sizes, times and inode numbers are those that the index has.
    expect(
      await sh('mnt/clone', 'git -c core.trustctime=true -c core.checkStat=default diff-files; git status --porcelain'),
    ).toBe('');
    expect(await sh('mnt/linked', 'git pull -q --no-rebase; git rev-parse HEAD')).toBe(
      await sh('mnt/clone', 'git rev-parse main'),
    );
    await sh('mnt', 'git clone -q --bare clone bare; rm -rf clone linked mirror; ls');
    expect(await sh('mnt', 'git -C bare fsck --full; rm -rf worktree bare; ls -A')).toBe('');
  },
  5 * minutes,
);
