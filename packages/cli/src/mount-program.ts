/**
 * What mount(8) and umount(8) call for our file system type, with arguments of their own form: `mount.TYPE SOURCE TARGET
 * [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]`. Never here: how a volume is mounted.
 */
import { spawnSync } from 'node:child_process';

/** Options of fstab that are for others: mount(8), and systemd's generator. */
const forOthers = /^(defaults|auto|noauto|user|nouser|users|owner|group|nofail|_netdev|relatime|x-.*|X-.*|comment=.*)$/;

/** A call of mount(8), in terms of ours. */
export type HelperCall =
  | { readonly kind: 'mount'; readonly words: readonly string[]; readonly isFake: boolean }
  | { readonly kind: 'remount'; readonly words: readonly string[] }
  | { readonly kind: 'unmount'; readonly words: readonly string[]; readonly isLazy: boolean }
  | { readonly kind: 'wrong'; readonly what: string };

interface Given {
  readonly paths: string[];
  readonly flags: string;
  readonly options: string[];
}

function read(args: readonly string[]): Given {
  const paths: string[] = [];
  const options: string[] = [];
  let flags = '';
  for (let at = 0; at < args.length; at += 1) {
    const word = args[at] ?? '';
    if (word === '-o') {
      at += 1;
      options.push(...(args[at] ?? '').split(',').filter((option) => option !== ''));
    } else if (word === '-t' || word === '-N') {
      at += 1;
    } else if (word.startsWith('-') && word.length > 1) {
      flags += word.slice(1);
    } else {
      paths.push(word);
    }
  }
  return { paths, flags, options };
}

/** What `args` of mount(8) mean. Of its options, `config=FILE` and `metrics=ADDRESS` are ours. */
export function mountCall(args: readonly string[]): HelperCall {
  const { paths, flags, options } = read(args);
  const [source, target] = paths;
  if (options.includes('remount')) {
    // The kernel changes its flags; the daemon has no part in it.
    return { kind: 'remount', words: ['-i', '-o', options.join(','), target ?? source ?? ''] };
  }
  if (source === undefined || target === undefined) {
    return { kind: 'wrong', what: 'a volume and a mountpoint are needed' };
  }
  const value = (name: string) => options.findLast((option) => option.startsWith(`${name}=`))?.slice(name.length + 1);
  const [config, metrics] = [value('config'), value('metrics')];
  const ours = options.filter(
    (option) => !forOthers.test(option) && !/^(config|metrics|allow_other)(=|$)/.test(option),
  );
  return {
    kind: 'mount',
    isFake: flags.includes('f'),
    words: [
      'mount',
      target,
      '--volume',
      source,
      ...(config === undefined ? [] : ['--config', config]),
      ...(metrics === undefined ? [] : ['--metrics', metrics]),
      ...(options.includes('allow_other') ? ['--allow-other'] : []),
      ...(ours.length === 0 ? [] : ['-o', ours.join(',')]),
    ],
  };
}

/** What `args` of umount(8) mean. */
export function unmountCall(args: readonly string[]): HelperCall {
  const { paths, flags } = read(args);
  const [target] = paths;
  return target === undefined
    ? { kind: 'wrong', what: 'a mountpoint is needed' }
    : { kind: 'unmount', words: ['unmount', target], isLazy: flags.includes('l') || flags.includes('f') };
}

/** Hands over to the program of util-linux, past helpers. Returns its exit code. */
function system(program: 'mount' | 'umount', words: readonly string[]): number {
  return spawnSync(program, words, { stdio: 'inherit' }).status ?? 1;
}

/** Exit code of mount(8) for wrong usage. */
const wrongUsage = 1;

/** Runs the helper and sets the exit code of the process. */
export async function mountProgram(argv: readonly string[]): Promise<void> {
  const [what, ...args] = argv;
  const call = what === 'umount' ? unmountCall(args) : mountCall(args);
  const { main } = await import('./main.ts');
  switch (call.kind) {
    case 'wrong':
      process.stderr.write(`${what}.verfs: ${call.what}\n`);
      process.exitCode = wrongUsage;
      return;
    case 'remount':
      process.exitCode = system('mount', call.words);
      return;
    case 'unmount':
      if (call.isLazy) {
        process.exitCode = system('umount', ['-i', '-l', ...call.words.slice(1)]);
        return;
      }
      return await main(call.words);
    case 'mount':
      return call.isFake ? undefined : await main([...call.words, '--quiet']);
  }
}
