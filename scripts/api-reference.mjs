/** The text of docs/API.md: declarations of the library with their documentation, as TypeScript gives them. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './stamp.mjs';

/** What the reference has, in its order. */
const parts = [
  ['Volumes', ['packages/sdk/dist/volume.d.ts']],
  ['Volumes that a daemon serves', ['packages/sdk/dist/control/client.d.ts']],
  ['Files', ['packages/fs/dist/index.d.ts', 'packages/fs/dist/watch.d.ts']],
  [
    'Snapshots',
    ['packages/sdk/dist/snapshots.d.ts', 'packages/sdk/dist/streams.d.ts', 'packages/native/dist/snapshots.d.ts'],
  ],
  ['The vault', ['packages/sdk/dist/vault.d.ts', 'packages/native/dist/vault.d.ts']],
  ['Policies', ['packages/sdk/dist/policy.d.ts']],
  ['Options and results', ['bindings/node/index.d.ts', 'packages/sdk/dist/cancellable.d.ts']],
];

/** Names that the library exports, from the text of its index. */
function exported() {
  const text = readFileSync(join(root, 'packages/sdk/dist/index.d.ts'), 'utf8');
  const lists = [...text.matchAll(/export (?:type )?\{([^}]*)\}/g)].flatMap(([, list]) => list.split(','));
  return new Set(lists.map((name) => name.replace(/^\s*type\s/, '').trim()).filter((name) => name !== ''));
}

/** Declarations that begin a line with `export`, each with the comment before it. */
function declarationsIn(text) {
  const found = [];
  const begin = /^(\/\*\*(?:[^*]|\*(?!\/))*\*\/\n)?export (?:declare )?(?:class|interface|type|const|function) (\w+)/gm;
  for (const match of text.matchAll(begin)) {
    const rest = text.slice(match.index + (match[1]?.length ?? 0));
    // It ends where the next line begins that is not indented and no closing brace.
    const lines = rest.split('\n');
    const end = lines.findIndex((line, at) => at > 0 && /^\S/.test(line) && !/^[}\])|&]/.test(line));
    const code = lines.slice(0, end === -1 ? lines.length : end).join('\n');
    found.push({ name: match[2], doc: match[1] ?? '', code: code.trimEnd() });
  }
  return found;
}

const prose = (doc) =>
  doc
    .replace(/^\/\*\*\s?|\s*\*\/\n?$/g, '')
    .replaceAll(/^ \* ?/gm, '')
    .trim();

const shownCode = (code) =>
  code
    .replace(/^export (declare )?/, '')
    .split('\n')
    .filter((line) => !/^\s+(#private;|private )/.test(line) && !line.startsWith('//# '))
    .join('\n');

/** The reference. The TypeScript has to be compiled. */
export function apiReference() {
  // Each name once, where it comes first: classes of the addon have names of the library's.
  const names = exported();
  const sections = parts.map(([title, files]) => {
    const declarations = files.flatMap((file) => declarationsIn(readFileSync(join(root, file), 'utf8')));
    const shown = declarations.filter(({ name }) => names.delete(name));
    if (shown.length === 0) {
      throw new Error(`nothing of the library is in ${files.join(', ')}`);
    }
    const texts = shown.map(({ name, doc, code }) =>
      [`### ${name}`, prose(doc), ['```ts', shownCode(code), '```'].join('\n')]
        .filter((text) => text !== '')
        .join('\n\n'),
    );
    return [`## ${title}`, ...texts].join('\n\n');
  });
  const head = [
    '# The library',
    'Generated from the types of the packages by `npm run generate`; a test compares them.\n[EMBEDDING.md](EMBEDDING.md) is the guide, [ERRORS.md](ERRORS.md) has the errors.',
  ];
  return `${[...head, ...sections].join('\n\n')}\n`;
}
