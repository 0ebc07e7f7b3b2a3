/** What people type: each command does in a mount what its manual says, and its effect is there after a remount. */
import { mkdirSync, readFileSync, renameSync, statSync } from 'node:fs';
import { basename } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { shell } from '../harness/command.ts';
import { attributesOf, metadataOf } from '../harness/metadata.ts';
import { isRoot, mountForAll, runAsNobody } from '../harness/others.ts';
import { Sandbox } from '../harness/sandbox.ts';

const ofRoot = isRoot ? test : test.skip;

let sandbox: Sandbox;
/** In the mount, one for each test. */
let directory: string;
let tests = 0;

beforeAll(async () => {
  sandbox = new Sandbox();
  await mountForAll(sandbox);
});

afterAll(() => sandbox[Symbol.asyncDispose]());

beforeEach(() => {
  tests += 1;
  directory = sandbox.inMount(`test-${tests}`);
  mkdirSync(directory);
});

/** Runs a script in the directory of the test; what it printed, without the last end of line. */
async function sh(script: string): Promise<string> {
  const env = { ...sandbox.env, TZ: 'UTC' };
  return (await shell(`umask 022; ${script}`, { cwd: directory, env })).replace(/\n$/, '');
}

/** Runs a script that must fail; what it said. */
async function refused(script: string): Promise<string> {
  const told = await sh(`if (${script}) 2> told; then exit 1; fi; cat told; rm told`);
  expect(told).not.toBe('');
  return told;
}

describe('touch, chmod, chown', () => {
  test('make files and set their times to the nanosecond, from before 1970 to after 2106', async () => {
    expect(await sh('touch new; stat -c "%F %s %a %h" new')).toBe('regular empty file 0 644 1');
    const times = ['1969-12-31 23:59:59.999999999', '2001-02-03 04:05:06.000000001', '2106-02-07 06:28:16.123456789'];
    for (const time of times) {
      expect(await sh(`touch -d '${time}' f; stat -c '%x|%y' f`)).toBe(`${time} +0000|${time} +0000`);
    }
    expect(await sh("touch -a -d '2002-02-02 02:02:02' f; stat -c '%x|%y' f")).toBe(
      `2002-02-02 02:02:02.000000000 +0000|${times[2]} +0000`,
    );
    expect(await sh('touch -r f g; touch -c absent; stat -c %y g; ls')).toBe(`${times[2]} +0000\nf\ng\nnew`);
  });

  test('set every bit of the mode', async () => {
    for (const mode of ['0', '400', '1777', '2755', '4711', '7777']) {
      // With five digits chmod takes the set-id bits of a directory away too.
      expect(await sh(`touch f; mkdir -p d; chmod 0${mode.padStart(4, '0')} f d; stat -c %a f d`)).toBe(
        `${mode}\n${mode}`,
      );
    }
    expect(await sh('chmod 640 f; chmod u+x,g-r,o=w f; stat -c %A f')).toBe('-rwx----w-');
  });

  ofRoot('change owners, of links too, and take the set-id bits away', async () => {
    await sh('touch f; ln -s f link; chmod 6755 f; chown 1234:5678 f');
    expect(await sh('stat -c "%u:%g %a" f')).toBe('1234:5678 755');
    expect(await sh('chown -h 4000000000:1 link; chgrp 9 f; stat -c "%u:%g" link f')).toBe('4000000000:1\n1234:9');
  });

  ofRoot('give the set-id bits of a file up when somebody else writes to it', async () => {
    await sh('printf 1 > f; chmod 6777 f; chmod 777 .');
    expect(await runAsNobody('sh', ['-c', 'printf 2 >> f'], { cwd: directory })).toMatchObject({ code: 0, stderr: '' });
    expect(await sh('cat f; stat -c " %a" f')).toBe('12 777');
  });

  ofRoot('decide who may do what', async () => {
    await sh('printf secret > mine; chmod 600 mine; mkdir -m 1777 sticky; printf 1 > sticky/mine; mkdir -m 0 closed');
    const asNobody = async (script: string) => (await runAsNobody('sh', ['-c', script], { cwd: directory })).stderr;
    expect(await asNobody('cat mine')).toMatch(/Permission denied/);
    expect(await asNobody('rm -f sticky/mine')).toMatch(/Operation not permitted/);
    expect(await asNobody('printf 2 > sticky/theirs; rm sticky/theirs')).toBe('');
    expect(await asNobody('ls closed')).toMatch(/Permission denied/);
    expect(await asNobody('chmod 666 mine')).toMatch(/Operation not permitted/);
    expect(await sh('cat mine; ls sticky')).toBe('secretmine');
  });

  ofRoot('let a set-group-id directory give its group', async () => {
    expect(await sh('mkdir d; chgrp 1234 d; chmod 2755 d; touch d/f; mkdir d/s; stat -c "%g %a" d/f d/s')).toBe(
      '1234 644\n1234 2755',
    );
  });
});

describe('setfattr, getfattr', () => {
  const get = 'getfattr --only-values -n';

  test('set, read, list, change and remove attributes of files and directories', async () => {
    await sh(
      'touch f; mkdir d; setfattr -n user.one -v first f; setfattr -n user.two -v 0x00ff0a f; setfattr -n user.d -v 3 d',
    );
    expect(await sh(`${get} user.one f; getfattr -n user.two -e hex f | grep =; ${get} user.d d`)).toBe(
      'firstuser.two=0x00ff0a\n3',
    );
    expect(await sh('getfattr f | grep user | sort')).toBe('user.one\nuser.two');
    await sh('setfattr -n user.one -v other f; setfattr -n user.empty f; setfattr -x user.two f');
    expect(await sh('getfattr -d f | grep user | sort')).toBe('user.empty=""\nuser.one="other"');
    expect(await refused(`${get} user.two f`)).toMatch(/No such attribute/);
    expect(await refused('setfattr -x user.two f')).toMatch(/No such attribute/);
  });

  test('stay with a file that is renamed or linked, and go with a file that is replaced', async () => {
    await sh('touch f g; setfattr -n user.a -v of-f f; setfattr -n user.a -v of-g g; ln f linked; mv f moved');
    expect(await sh(`${get} user.a moved; echo; ${get} user.a linked`)).toBe('of-f\nof-f');
    expect(await sh(`mv -f moved g; ${get} user.a g`)).toBe('of-f');
    expect(await sh(`cp --preserve=xattr g copy; ${get} user.a copy; cp g bare; getfattr bare`)).toBe('of-f');
  });

  test('have the limits of Linux', async () => {
    await sh('touch f; ln -s f link; setfattr -n user.large -v "$(head -c 60000 /dev/zero | tr "\\0" x)" f');
    expect(await sh(`${get} user.large f | tr -d x | wc -c; ${get} user.large f | wc -c`)).toBe('0\n60000');
    expect(await sh(`n=user.$(head -c 250 /dev/zero | tr '\\0' n); setfattr -n $n -v 1 f; ${get} $n f`)).toBe('1');
    expect(await refused(`n=user.$(head -c 251 /dev/zero | tr '\\0' n); setfattr -n $n -v 1 f`)).not.toBe('');
    expect(await refused('setfattr -n nonsense.x -v 1 f')).toMatch(/not supported/);
    expect(await refused('setfattr -h -n user.x -v 1 link')).toMatch(/not permitted/);
  });

  ofRoot('hide trusted attributes from others, and let those of root on any kind of file', async () => {
    await sh(
      'touch f; ln -s f link; mkfifo fifo; chmod 666 f; setfattr -n trusted.t -v t f; setfattr -h -n trusted.l -v l link',
    );
    await sh('setfattr -n trusted.f -v f fifo; setfattr -n security.s -v s f');
    expect(await sh(`${get} trusted.t f; ${get} trusted.f fifo; ${get} security.s f`)).toBe('tfs');
    expect(await sh('getfattr -h --only-values -n trusted.l link')).toBe('l');
    const others = await runAsNobody('getfattr', ['-m', 'trusted', 'f'], { cwd: directory });
    expect(others).toMatchObject({ code: 0, stdout: '' });
    expect((await runAsNobody('setfattr', ['-n', 'trusted.x', '-v', '1', 'f'], { cwd: directory })).code).not.toBe(0);
  });
});

describe('setfacl, getfacl', () => {
  test('show the mode where there is no list', async () => {
    expect(await sh('touch f; chmod 640 f; getfacl -cn f')).toBe('user::rw-\ngroup::r--\nother::---\n');
  });

  test('set a list with its mask, which chmod moves, and remove it', async () => {
    expect(await sh('touch f; chmod 640 f; setfacl -m u:1234:rwx,g:5678:r-x f; getfacl -cnE f')).toBe(
      'user::rw-\nuser:1234:rwx\ngroup::r--\ngroup:5678:r-x\nmask::rwx\nother::---\n',
    );
    expect(await sh('stat -c %a f; chmod g=r f; getfacl -cnE f | grep mask')).toBe('670\nmask::r--');
    expect(await sh('ls -l f | cut -c 11; setfacl -b f; getfacl -cn f; ls -l f | cut -c 11')).toBe(
      '+\nuser::rw-\ngroup::r--\nother::---\n\n ',
    );
  });

  test('let new files and directories inherit the default list', async () => {
    await sh('mkdir d; setfacl -d -m u:1234:rwx,g::r-x,o::--- d; touch d/f; mkdir d/s; umask 077; touch d/g');
    expect(await sh('getfacl -cnE d/f')).toBe('user::rw-\nuser:1234:rwx\ngroup::r-x\nmask::rw-\nother::---\n');
    expect(await sh('getfacl -cnE d/s | grep -c default:user:1234:rwx; getfacl -cnE d/g | grep mask')).toBe(
      '1\nmask::rw-',
    );
    expect(
      await sh(
        'setfacl -k d; getfacl -cn d | grep -c default || true; touch d/h; getfacl -cn d/h | grep -c 1234 || true',
      ),
    ).toBe('0\n0');
  });

  ofRoot('decide who may do what', async () => {
    await sh(
      'printf text > f; chmod 600 f; setfacl -m u:65534:r f; printf text > g; chmod 644 g; setfacl -m u:65534:- g',
    );
    const asNobody = (script: string) => runAsNobody('sh', ['-c', script], { cwd: directory });
    expect(await asNobody('cat f')).toMatchObject({ code: 0, stdout: 'text' });
    expect((await asNobody('printf 1 > f')).stderr).toMatch(/Permission denied/);
    expect((await asNobody('cat g')).stderr).toMatch(/Permission denied/);
    await sh('setfacl -m m::- f');
    expect((await asNobody('cat f')).stderr).toMatch(/Permission denied/);
  });
});

describe('ln', () => {
  test('makes names of one file, which stat counts', async () => {
    const links = 'stat -c %h';
    expect(await sh(`printf 1 > a; ln a b; mkdir d; ln b d/c; ${links} a b d/c`)).toBe('3\n3\n3');
    expect(await sh('test a -ef d/c; printf 2 >> d/c; cat a; chmod 600 b; stat -c " %a" a')).toBe('12 600');
    expect(await sh(`rm a; ${links} b; mv b d/b; ${links} d/c; mv d/b other; ${links} other`)).toBe('2\n2\n2');
    expect(await sh(`printf 3 > new; mv -f new other; ${links} d/c; cat d/c other`)).toBe('1\n123');
    expect(await refused('ln d e')).toMatch(/not allowed/);
    expect(await refused('ln d/c other')).toMatch(/exists/);
  });

  test('leaves both names when one is renamed over the other', async () => {
    await sh('printf 1 > a; ln a b');
    renameSync(`${directory}/a`, `${directory}/b`);
    expect(await sh('ls; stat -c %h a b; cat a b')).toBe('a\nb\n2\n2\n11');
  });

  test('counts the directories in a directory', async () => {
    expect(await sh('mkdir -p d/a d/b/c; touch d/f; stat -c %h d; rmdir d/a; mv d/b/c .; stat -c %h d d/b')).toBe(
      '4\n3\n2',
    );
  });

  test('makes symbolic links, which may dangle, loop, and be long', async () => {
    expect(await sh('printf 1 > f; ln -s f l; cat l; readlink l; stat -c %F l; stat -Lc %F l')).toBe(
      '1f\nsymbolic link\nregular file',
    );
    expect(await refused('ln -s absent dangling; cat dangling')).toMatch(/No such file/);
    expect(await refused('ln -s y x; ln -s x y; cat x')).toMatch(/Too many levels/);
    expect(
      await sh(
        't=$(head -c 4000 /dev/zero | tr "\\0" t); ln -s $t long; test "$(readlink long)" = $t; stat -c %s long',
      ),
    ).toBe('4000');
    expect(await sh('ln -sfn other l; readlink l; ln -s . here; ls here/here/f')).toBe('other\nhere/here/f');
  });
});

describe('cp, mv, rm', () => {
  test('copy content, holes and metadata', async () => {
    await sh(
      'head -c 3000000 /dev/urandom > f; chmod 751 f; touch -d "2001-02-03 04:05:06.7" f; cp -a f copy; cmp f copy',
    );
    expect(await sh('stat -c "%a %y" copy')).toBe('751 2001-02-03 04:05:06.700000000 +0000');
    await sh(
      'truncate -s 64M h; printf end >> h; cp h i; cp --sparse=always h j; cp --reflink=auto f k; cmp h i; cmp h j; cmp f k',
    );
    expect(
      await sh('cp -l f l; cp -s "$PWD/f" s; stat -c %h l; readlink s | xargs basename; cp f l 2>&1 || true'),
    ).toMatch(/^2\nf\n.*same file/);
    await sh(
      'mkdir -p t/u; ln f t/one; ln f t/u/two; ln -s one t/l; cp -a t t2; test t2/one -ef t2/u/two; cmp f t2/u/two',
    );
  });

  test('move within the mount, over what is there, and between file systems', async () => {
    await sh('mkdir -p a/b c e; printf 1 > a/b/f; printf 2 > c/f; mv a/b/f c/f; cat c/f; mv c/f .; test ! -e c/f');
    expect(await sh('mkdir x; touch x/y; mv -T a/b e; ls -d e a')).toBe('a\ne');
    expect(await refused('mv -T a x')).toMatch(/not empty/);
    expect(await refused('mv x x/z')).toMatch(/subdirectory of itself/);
    expect(await refused('mv -T f x')).toMatch(/directory/);
    const outside = sandbox.path(`outside-${basename(directory)}`);
    await sh('mkdir t; cp -a x f t; ln t/f t/g; chmod 640 t/f; touch -d "2001-02-03 04:05:06.789" t/f t/x t');
    const before = await metadataOf(`${directory}/t`);
    await sh(`mv t ${outside}; test ! -e t`);
    expect(await metadataOf(outside)).toEqual(before);
    await sh(`mv ${outside} back; test ! -e ${outside}`);
    expect(await metadataOf(`${directory}/back`)).toEqual(before);
  });

  test('remove', async () => {
    await sh('mkdir -p d/e/f; i=0; while [ $i -lt 300 ]; do echo $i > d/e/$i; i=$((i + 1)); done');
    expect(await refused('rmdir d/e')).toMatch(/not empty/);
    expect(await refused('rm d')).toMatch(/directory/);
    expect(await sh('rm -r d; ls -A')).toBe('');
    expect(await sh('printf 1 > f; exec 3< f; rm f; cat <&3; ls -A')).toBe('1');
  });
});

describe('fallocate', () => {
  test('reserves space, with and without a new size', async () => {
    expect(await sh('printf 1 > f; fallocate -l 100000 f; stat -c %s f; tr -d "\\0" < f')).toBe('100000\n1');
    expect(await sh('fallocate -n -o 100000 -l 100000 f; stat -c %s f')).toBe('100000');
  });

  test('punches holes and writes zeros', async () => {
    await sh('yes | head -c 300000 > f; cp f g; fallocate -p -o 100000 -l 50000 f; fallocate -z -o 250000 -l 100000 g');
    expect(await sh('stat -c %s f g; tr -d "\\0" < f | wc -c; tr -d "\\0" < g | wc -c')).toBe(
      '300000\n350000\n250000\n250000',
    );
    expect(
      await sh(
        'yes | head -c 300000 | cmp -n 100000 f; yes | head -c 300000 | cmp -i 150000 f; fallocate -d f; wc -c < f',
      ),
    ).toBe('300000');
  });
});

describe('chattr, lsattr', () => {
  ofRoot('make a file unchangeable, or only longer', async () => {
    await sh('printf 1 > f; printf 1 > log; chattr +i f; chattr +a log');
    expect(await sh('lsattr f log | cut -c 5,6')).toBe('i-\n-a');
    try {
      expect(await refused('printf 2 > f')).toMatch(/not permitted/);
      expect(await refused('rm -f f')).toMatch(/not permitted/);
      expect(await refused('mv f g')).toMatch(/not permitted/);
      expect(await refused('ln f g')).toMatch(/not permitted/);
      expect(await refused('chmod 600 f')).toMatch(/not permitted/);
      expect(await refused('printf 2 > log')).toMatch(/not permitted/);
      expect(await sh('printf 2 >> log; cat f log')).toBe('112');
    } finally {
      await sh('chattr -i f; chattr -a log');
    }
    expect(await sh('printf 2 > f; rm log; cat f')).toBe('2');
  });
});

test('flock and the appends of several processes hold', async () => {
  await sh(
    '(flock -x 9; touch held; sleep 0.5; printf 1 >> f) 9> lock & while [ ! -e held ]; do :; done; flock lock sh -c "printf 2 >> f"; wait',
  );
  expect(await sh('cat f; flock -n lock true && echo free')).toBe('12free');
  await sh(
    'for p in 1 2 3 4; do (i=0; while [ $i -lt 200 ]; do echo "line of process $p" >> appended; i=$((i + 1)); done) & done; wait',
  );
  expect(await sh('sort appended | uniq -c | tr -s " "')).toBe(
    [1, 2, 3, 4].map((process) => ` 200 line of process ${process}`).join('\n'),
  );
});

test('a file has any size up to 16 TiB where nothing is written', async () => {
  expect(await sh('truncate -s 16T f; printf end >> f; stat -c %s f; tail -c 4 f | od -An -c')).toBe(
    '17592186044419\n  \\0   e   n   d',
  );
  expect(await sh('truncate -s 3 f; od -An -c f')).toBe('  \\0  \\0  \\0');
  expect(statSync(`${directory}/f`).blocks).toBeLessThan(100);
});

test('after a remount everything is as it was', async () => {
  expect(tests).toBeGreaterThan(15);
  await sh('printf 1 > f; ln f g; ln -s f l; mkfifo p; chmod 4711 f; touch -d "2106-02-07 06:28:16.123456789" g');
  const before = await metadataOf(sandbox.mountpoint);
  await sandbox.unmount();
  await mountForAll(sandbox);
  expect(await metadataOf(sandbox.mountpoint)).toEqual(before);
  expect(readFileSync(`${directory}/f`, 'utf8')).toBe('1');
});

test('after a remount attributes and access control lists are as they were', async () => {
  await sh('touch f; mkdir d; setfattr -n user.a -v 1 f; setfacl -m u:1234:rw f; setfacl -d -m u:1234:rwx d');
  const before = await attributesOf(sandbox.mountpoint);
  expect(before).toEqual(expect.arrayContaining(['user.a=0x31', 'user:1234:rw-', 'default:user:1234:rwx']));
  await sandbox.unmount();
  await mountForAll(sandbox);
  expect(await attributesOf(sandbox.mountpoint)).toEqual(before);
});
