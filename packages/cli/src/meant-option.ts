/** Which option somebody may have meant who wrote one that there is not. */
import { distance } from 'fastest-levenshtein';
import { commandModels, commonOptionModels } from './reference/model.ts';

/** An option of the command that `words` call that is much like the one that `message` says is unknown. */
export async function meantOption(words: readonly string[], message: string): Promise<string | undefined> {
  const given = /^Unknown arguments?: ([\w-]{3,})/.exec(message)?.[1];
  if (given === undefined || !words.some((word) => word.replace(/=.*/s, '') === `--${given}`)) {
    return undefined;
  }
  const all = (await commandModels()).flatMap((model) => [model, ...model.commands]);
  const called = all.findLast((model) => model.words.split(' ').every((word, index) => words[index] === word));
  const known = [...(called?.options ?? []), ...commonOptionModels].flatMap(({ name, aliases }) => [name, ...aliases]);
  // The one option that belongs to no command.
  const names = [...known, 'version'];
  const near = names
    .map((name) => ({ name, far: name.startsWith(given) ? 1 : distance(given, name) }))
    .filter(({ name, far }) => name.length > 2 && far <= Math.max(1, given.length / 3))
    .sort((a, b) => a.far - b.far);
  return near[0]?.name;
}
