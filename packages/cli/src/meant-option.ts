/** Which option somebody may have meant who wrote one that there is not. */
import { commandModels, commonOptionModels } from './reference/model.ts';

/** How many letters have to be added, left out or changed to make one word of another. */
function distance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (const [at, letter] of [...from].entries()) {
    const next = [at + 1];
    for (let index = 0; index < to.length; index += 1) {
      const [left = 0, above = 0, across = 0] = [next[index], row[index + 1], row[index]];
      next.push(Math.min(left + 1, above + 1, across + (letter === to[index] ? 0 : 1)));
    }
    row = next;
  }
  return row.at(-1) ?? 0;
}

/** An option of the command that `words` call that is much like the one that `message` says is unknown. */
export async function meantOption(words: readonly string[], message: string): Promise<string | undefined> {
  const given = /^Unknown arguments?: ([\w-]{3,})/.exec(message)?.[1];
  if (given === undefined || !words.some((word) => word.replace(/=.*/s, '') === `--${given}`)) {
    return undefined;
  }
  const all = (await commandModels()).flatMap((model) => [model, ...model.commands]);
  const called = all.findLast((model) => model.words.split(' ').every((word, index) => words[index] === word));
  const names = [...(called?.options ?? []), ...commonOptionModels].flatMap(({ name, aliases }) => [name, ...aliases]);
  const near = names
    .map((name) => ({ name, far: name.startsWith(given) ? 1 : distance(given, name) }))
    .filter(({ name, far }) => name.length > 2 && far <= Math.max(1, given.length / 3))
    .sort((a, b) => a.far - b.far);
  return near[0]?.name;
}
