/** `-path DIR` is one option of `verfs crypt`, with one dash. */
export const cryptWords = (words: readonly string[]): string[] =>
  words[0] === 'crypt' ? words.map((word) => word.replace(/^-path(?=$|=)/, '--key-directory')) : [...words];
