import { readFileSync } from 'node:fs';
import type { Argv } from 'yargs';
import type { CommonArguments } from '../context.ts';
import { createOutput } from '../output.ts';

/** The generated scripts, by their shells. */
export const completionFiles = { bash: 'verfs.bash', zsh: '_verfs', fish: 'verfs.fish' } as const;

type Shell = keyof typeof completionFiles;

/** Options of `verfs completion`. */
export const completionBuilder = (yargs: Argv<CommonArguments>) =>
  yargs
    .positional('shell', {
      choices: Object.keys(completionFiles) as Shell[],
      demandOption: true,
      describe: 'Which shell',
    })
    .example('source <($0 completion bash)', 'in ~/.bashrc, for bash')
    .example('source <($0 completion zsh)', 'in ~/.zshrc, after compinit, for zsh')
    .example('$0 completion fish > ~/.config/fish/completions/verfs.fish', 'for fish');

/** Prints the script that makes a shell complete. */
export async function completion(args: CommonArguments & { readonly shell: Shell }): Promise<void> {
  const file = new URL(`../../share/completions/${completionFiles[args.shell]}`, import.meta.url);
  const script = readFileSync(file, 'utf8').trimEnd();
  createOutput(args.json ? 'json' : 'text').result({ script }, () => [script]);
}
