import { completionFiles } from '../commands/completion.ts';
import { version } from '../version.ts';
import { completionScripts, shells } from './completion.ts';
import { manPages } from './man.ts';

/** The files in packages/cli/share, by their paths in it: `man/verfs.1`, `completions/verfs.bash`, … */
export async function generatedFiles(): Promise<Readonly<Record<string, string>>> {
  const pages = Object.entries(await manPages(version())).map(([name, text]) => [`man/${name}`, text]);
  const scripts = await completionScripts();
  return Object.fromEntries([
    ...pages,
    ...shells.map((shell) => [`completions/${completionFiles[shell]}`, scripts[shell]]),
  ]);
}
