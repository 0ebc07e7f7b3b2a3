/** Which option somebody may have meant who wrote one that there is not. */
import { distance } from 'fastest-levenshtein';
import { commandModels, commonOptionModels } from './reference/model.ts';

/** The names of the options that the command that `words` call takes, without dashes. */
export async function optionNames(words: readonly string[]): Promise<readonly string[]> {
  const all = (await commandModels()).flatMap((model) => [model, ...model.commands]);
  const called = all.findLast((model) => model.words.split(' ').every((word, index) => words[index] === word));
  const known = [...(called?.options ?? []), ...commonOptionModels].flatMap(({ name, aliases }) => [name, ...aliases]);
  // The one option that belongs to no command.
  return [...known, 'version'];
}

/** The one of `names` that is much like the option of `words` that `message` says is unknown. */
export function meantOption(names: readonly string[], words: readonly string[], message: string): string | undefined {
  const given = /^Unknown arguments?: ([\w-]{3,})/.exec(message)?.[1];
  if (given === undefined || !words.some((word) => word.replace(/=.*/s, '') === `--${given}`)) {
    return undefined;
  }
  const near = names
    .map((name) => ({ name, far: name.startsWith(given) ? 1 : distance(given, name) }))
    .filter(({ name, far }) => name.length > 2 && far <= Math.max(1, given.length / 3))
    .sort((a, b) => a.far - b.far);
  return near[0]?.name;
}
