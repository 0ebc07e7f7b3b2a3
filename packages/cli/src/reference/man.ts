/** Man pages, in the macros of man(7). */
import { errorTable } from '@verfs/errors';
import { type CommandModel, commandModels, commonOptionModels, type OptionModel } from './model.ts';

/** Text as roff takes it literally. */
function escaped(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll('`', '')
    .replaceAll(/^([.'])/gm, '\\&$1');
}

const pageName = ({ words }: CommandModel) => `verfs-${words}`;

function head(page: string, section: number, version: string): string[] {
  return [
    '.\\" Generated from the definitions of the commands by `npm run generate`.',
    `.TH ${page.toUpperCase().replaceAll('-', '\\-')} ${section} "" "VerFS ${version}" "VerFS"`,
  ];
}

const name = (page: string, what: string) => ['.SH NAME', `${escaped(page)} \\- ${escaped(what)}`];

/** `--volume VALUE`, bold where it is typed as it is. */
function optionTerm({ name: long, aliases, takesValue, choices }: OptionModel): string {
  const dashed = [...aliases, long].map((one) => `\\fB${escaped((one.length === 1 ? '-' : '--') + one)}\\fR`);
  const value = choices.length > 0 ? choices.join('|') : 'VALUE';
  return dashed.join(', ') + (takesValue ? ` \\fI${escaped(value)}\\fR` : '');
}

const items = (list: readonly (readonly [term: string, text: string])[]): string[] =>
  list.flatMap(([term, text]) => ['.TP', term, escaped(text)]);

const optionItems = (options: readonly OptionModel[]) =>
  items(options.map((option) => [optionTerm(option), `${option.describe}.`]));

/** `snapshot create <name>` with what is typed in bold and what is meant in italics. */
function synopsis({ usage }: CommandModel): string {
  const shown = usage.split(' ').map((word) => {
    const inner = /^([<[])(.*?)(\.\.)?([>\]])$/.exec(word);
    if (inner === null) {
      return `\\fB${escaped(word)}\\fR`;
    }
    const many = inner[3] === undefined ? '' : ' ...';
    const meant = `\\fI${(inner[2] ?? '').toUpperCase()}\\fR${many}`;
    return inner[1] === '[' ? `[${meant}]` : meant;
  });
  return `\\fBverfs\\fR ${shown.join(' ')} [\\fIOPTIONS\\fR]`;
}

const exampleItems = ({ examples }: CommandModel): string[] =>
  items(
    examples.map(([command, what]): [string, string] => {
      return [`\\fB${escaped(command)}\\fR`, `${what.charAt(0).toUpperCase()}${what.slice(1)}.`];
    }),
  );

const section = (title: string, lines: readonly string[]): string[] =>
  lines.length === 0 ? [] : [`.SH ${title}`, ...lines];

/** Of what yargs would indent: no blank line may be in the source. */
const page = (lines: readonly string[]) => `${lines.filter((line) => line !== '').join('\n')}\n`;

function bodyOf(command: CommandModel): string[] {
  const positionals = command.positionals.map(({ name: word, describe }): [string, string] => {
    return [`\\fI${word.toUpperCase()}\\fR`, `${describe}.`];
  });
  return [...items(positionals), ...optionItems(command.options)];
}

function commandPage(command: CommandModel, version: string): string {
  const parts = command.commands.length === 0 ? [command] : command.commands;
  const synopses = parts.flatMap((part, index) => [...(index === 0 ? [] : ['.br']), synopsis(part)]);
  const described =
    command.commands.length === 0
      ? section('OPTIONS', bodyOf(command))
      : section(
          'COMMANDS',
          parts.flatMap((part) => [`.SS ${escaped(part.words)}`, `${escaped(part.describe)}.`, ...bodyOf(part)]),
        );
  return page([
    ...head(pageName(command), 1, version),
    ...name(pageName(command), command.describe.charAt(0).toLowerCase() + command.describe.slice(1)),
    ...section('SYNOPSIS', synopses),
    ...described,
    ...section('COMMON OPTIONS', optionItems(commonOptionModels)),
    ...section('EXAMPLES', [command, ...command.commands].flatMap(exampleItems)),
    ...section('SEE ALSO', ['\\fBverfs\\fR(1)']),
  ]);
}

function mainPage(models: readonly CommandModel[], version: string): string {
  const exitCodes = Object.values(errorTable).map(({ exitCode, summary }): [string, string] => [
    `\\fB${exitCode}\\fR`,
    summary,
  ]);
  return page([
    ...head('verfs', 1, version),
    ...name('verfs', 'a file system that deduplicates and compresses what is stored in it'),
    ...section('SYNOPSIS', ['\\fBverfs\\fR \\fICOMMAND\\fR [\\fIOPTIONS\\fR]']),
    ...section('DESCRIPTION', [
      'A command acts on the volume of \\fB\\-\\-volume\\fR \\fIDIR\\fR, or of the mount in which its path lies, or',
      'else on the default volume, \\fI~/.local/share/verfs/default\\fR.',
    ]),
    ...section(
      'COMMANDS',
      items(models.map((model) => [`\\fBverfs\\-${escaped(model.words)}\\fR(1)`, `${model.describe}.`])),
    ),
    ...section('OPTIONS', optionItems(commonOptionModels)),
    ...section('EXIT STATUS', items([['\\fB0\\fR', 'Done.'], ...exitCodes])),
    ...section(
      'FILES',
      items([
        ['\\fI~/.config/verfs/config.toml\\fR', 'Configuration of a user.'],
        ['\\fI/etc/verfs/config.toml\\fR', 'Configuration of root.'],
        ['\\fI~/.local/state/verfs\\fR', 'Logs of the daemons.'],
      ]),
    ),
    ...section('SEE ALSO', [
      `${models.map(({ words }) => `\\fBverfs\\-${escaped(words)}\\fR(1)`).join(',\n')},`,
      '\\fBmount\\fR(8),',
      '\\fBfuse\\fR(4)',
    ]),
  ]);
}

/** Every page, by the name of its file. */
export async function manPages(version: string): Promise<Readonly<Record<string, string>>> {
  const models = await commandModels();
  const pages = models.map((model): [string, string] => [`${pageName(model)}.1`, commandPage(model, version)]);
  return Object.fromEntries([['verfs.1', mainPage(models, version)], ...pages]);
}
