import { shell } from './command.ts';

/**
 * What `find` and `stat` tell of everything below `directory`, a line each, sorted: path, type, mode, owner, time of
 * the last change to the nanosecond; links, size and content of what is no directory; targets and device numbers.
 */
export async function metadataOf(directory: string): Promise<string[]> {
  const script = `
    find . -mindepth 1 -type d -printf '%P\\t%y %m %U:%G %T@\\n'
    find . -mindepth 1 ! -type d -printf '%P\\t%y %m %U:%G %T@ %n %s %l\\n'
    find . '(' -type b -o -type c ')' -exec stat -c '%n device %t:%T' {} +
    find . -type f -exec sha256sum {} +`;
  return linesOf(await shell(script, { cwd: directory }));
}

/** Extended attributes and access control lists of everything below `directory`, sorted by path. */
export async function attributesOf(directory: string): Promise<string[]> {
  const script = `
    find . -mindepth 1 -print0 | sort -z | xargs -0 getfattr --no-dereference --dump --match=- --encoding=hex
    find . -mindepth 1 ! -type l -print0 | sort -z | xargs -0 getfacl --numeric --physical --absolute-names`;
  return (await shell(script, { cwd: directory })).split('\n');
}

/** Sorted, since a directory has no order. */
function linesOf(text: string): string[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .sort();
}
