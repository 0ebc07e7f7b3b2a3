import { shell } from './command.ts';
import { isRoot } from './others.ts';

/** Devices and foreign owners, which only root can make. */
const ofRoot = `
  mknod null c 1 3
  mknod block b 259 70000
  chown 1234:5678 d/text
  chown 4000000000:4000000001 d/random
  chown -h 1234:5678 d/soft
  chmod 4755 d/set-user-id
  chown -R 1000:1000 theirs`;

/**
 * Puts one of everything that a directory can hold into the empty `directory`: kinds of files, links, holes, modes,
 * owners, times and names.
 */
export async function makeSpecimens(directory: string): Promise<void> {
  const socket = "require('node:net').createServer().listen('socket', () => process.kill(process.pid, 'SIGKILL'))";
  const script = `
    umask 022
    mkdir -p d/sub/deep empty theirs/of-them odd
    printf 'text\\n' > d/text
    : > d/nothing
    head -c 3000000 /dev/urandom > d/random
    yes 'the same line' | head -c 2000000 > d/repeated
    truncate -s 64M d/holes
    printf middle | dd of=d/holes bs=1 seek=20000000 conv=notrunc status=none
    truncate -s 5M d/only-a-hole
    ln d/text d/sub/hard
    ln d/text hard-too
    ln -s text d/soft
    ln -s /nonexistent/target dangling
    ln -s d to-directory
    mkfifo fifo
    '${process.execPath}' -e "${socket}" || test -S socket
    printf 1 > theirs/of-them/file
    printf 1 > 'odd/ with spaces '
    printf 2 > "odd/$(printf 'new\\nline')"
    printf 3 > "odd/$(printf 'not \\377 UTF-8')"
    printf 4 > odd/-dash
    printf 5 > 'odd/*?[x]'
    printf 6 > "odd/'\\"quoted\\""
    printf 7 > "odd/$(head -c 255 /dev/zero | tr '\\0' n)"
    printf 8 > odd/ünïcödé
    for mode in 0400 0600 0644 0755 0777; do printf $mode > d/mode-$mode; chmod $mode d/mode-$mode; done
    cp d/text d/set-user-id
    ${isRoot ? ofRoot : ''}
    chmod 2775 d/sub
    chmod 1777 empty
    touch -d '1969-07-20 20:17:40.123456789 UTC' d/mode-0400
    touch -d '1901-12-13 20:45:53.000000001 UTC' d/mode-0600
    touch -d '2038-01-19 03:14:08.999999999 UTC' d/mode-0644
    touch -d '2106-02-07 06:28:16.000000001 UTC' d/mode-0755
    touch -h -d '2001-02-03 04:05:06.070809 UTC' d/soft
    touch -d '2011-12-13 14:15:16.171819202 UTC' d/sub
    touch -d '2000-01-01 00:00:00.5 UTC' d`;
  await shell(script, { cwd: directory, env: { ...process.env, LC_ALL: 'C.UTF-8' } as Record<string, string> });
}

/** Gives extended attributes and access control lists to what `makeSpecimens` made. */
export async function addAttributes(directory: string): Promise<void> {
  const capability = '0x0100000200200000000000000000000000000000';
  const asRoot = `
    setfattr -n trusted.mine -v secret d/random
    setfattr -h -n trusted.of-a-link -v 'of the link' d/soft
    setfattr -n security.capability -v ${capability} d/mode-0755`;
  const script = `
    setfattr -n user.text -v 'some text' d/text
    setfattr -n user.binary -v 0x00ff00fe0a d/text
    setfattr -n user.empty d/text
    setfattr -n user.long -v "$(head -c 3000 /dev/zero | tr '\\0' v)" d/random
    setfattr -n user.of-a-directory -v 1 d/sub
    ${isRoot ? asRoot : ''}
    setfacl -m u:1234:rwx,g:5678:r-x d/repeated
    setfacl -m u:1234:---,m::r d/mode-0777
    setfacl -m u:1234:rwx d/sub
    setfacl -d -m u:1234:rwx,g:5678:r-x,o::--- d/sub
    touch -d '2011-12-13 14:15:16.171819202 UTC' d/sub`;
  await shell(script, { cwd: directory });
}
