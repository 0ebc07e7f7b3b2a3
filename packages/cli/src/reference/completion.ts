/** Completion for shells: static scripts, which start nothing to complete a word. */
import { type CommandModel, commandModels, commonOptionModels, type OptionModel } from './model.ts';

/** The shells that there is a script for. */
export const shells = ['bash', 'zsh', 'fish'] as const;

/** A shell that there is a script for. */
export type Shell = (typeof shells)[number];

const origin = '# Generated from the definitions of the commands by `npm run generate`.';

const dashed = (name: string) => (name.length === 1 ? `-${name}` : `--${name}`);
const spellings = ({ name, aliases }: OptionModel) => [name, ...aliases].map(dashed);
const plain = (text: string) => text.replaceAll('`', '');
const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;

/** Every command that takes arguments, with those above it. */
const flat = (models: readonly CommandModel[]): CommandModel[] =>
  models.flatMap((model) => [model, ...flat(model.commands)]);

const optionsOf = ({ options }: CommandModel) => [...options, ...commonOptionModels];

/** Words that may follow a command: those below it, or the choices of its first argument. */
const wordsAfter = ({ commands, positionals }: CommandModel): readonly string[] =>
  commands.length > 0
    ? commands.map(({ words }) => words.split(' ').at(-1) ?? words)
    : (positionals.find(({ choices }) => choices.length > 0)?.choices ?? []);

function bash(models: readonly CommandModel[]): string {
  const all = flat(models);
  const groups = models.filter(({ commands }) => commands.length > 0).map(({ words }) => words);
  const topLevel = [...models.map(({ words }) => words), ...commonOptionModels.flatMap(spellings)];
  const cases = all.map((model) => {
    const words = wordsAfter(model).join(' ');
    return `    ${quoted(model.words)}) options=${quoted(optionsOf(model).flatMap(spellings).join(' '))} words=${quoted(words)} ;;`;
  });
  const valued = all.flatMap((model) =>
    optionsOf(model)
      .filter(({ choices }) => choices.length > 0)
      .map((option) => {
        const patterns = spellings(option).map((one) => quoted(`${model.words} ${one}`));
        return `    ${patterns.join('|')}) COMPREPLY=($(compgen -W ${quoted(option.choices.join(' '))} -- "$current")); return ;;`;
      }),
  );
  const takeValue = [
    ...new Set(all.flatMap((model) => optionsOf(model).filter(({ takesValue }) => takesValue)).flatMap(spellings)),
  ];
  return [
    origin,
    '_verfs() {',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: they are the shell's.
    '  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command="" options="" words="" at word',
    '  COMPREPLY=()',
    '  for ((at = 1; at < COMP_CWORD; at++)); do',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the shell's.
    '    word=${COMP_WORDS[at]}',
    '    [[ $word == -* ]] && continue',
    '    if [[ -z $command ]]; then',
    '      command=$word',
    `      case $command in ${groups.join('|')}) continue ;; esac`,
    '      break',
    '    fi',
    '    command+=" $word"',
    '    break',
    '  done',
    '  if [[ -z $command ]]; then',
    `    COMPREPLY=($(compgen -W ${quoted(topLevel.join(' '))} -- "$current"))`,
    '    return',
    '  fi',
    ...(valued.length === 0 ? [] : ['  case "$command $previous" in', ...valued, '  esac']),
    '  case $previous in',
    `    ${takeValue.join('|')}) COMPREPLY=($(compgen -f -- "$current")); compopt -o filenames; return ;;`,
    '  esac',
    '  case $command in',
    ...cases,
    '  esac',
    '  if [[ $current == -* ]]; then',
    '    COMPREPLY=($(compgen -W "$options" -- "$current"))',
    '  elif [[ -n $words ]]; then',
    '    COMPREPLY=($(compgen -W "$words" -- "$current"))',
    '  else',
    '    COMPREPLY=($(compgen -f -- "$current"))',
    '    compopt -o filenames',
    '  fi',
    '}',
    'complete -F _verfs verfs',
    '',
  ].join('\n');
}

/** A text in a specification of _arguments, which has meanings for colons and brackets. */
const zshText = (text: string) => plain(text).replaceAll(/[[\]:\\]/g, (one) => `\\${one}`);

function zshOption(option: OptionModel): string[] {
  const action = option.choices.length > 0 ? `(${option.choices.join(' ')})` : '_files';
  return spellings(option).map((one) => {
    const isLong = one.startsWith('--');
    const value = option.takesValue ? `:${option.name}:${action}` : '';
    const equals = option.takesValue && isLong ? '=' : '';
    return quoted(`${one}${equals}[${zshText(option.describe)}]${value}`);
  });
}

function zshArguments(model: CommandModel): string {
  const words = wordsAfter(model);
  const rest = words.length > 0 ? `*:argument:(${words.join(' ')})` : '*:file:_files';
  return ['_arguments -s', ...optionsOf(model).flatMap(zshOption), quoted(rest)].join(' \\\n        ');
}

const zshList = (models: readonly CommandModel[]) =>
  models.map(({ words, describe }) => quoted(`${words.split(' ').at(-1)}:${plain(describe)}`)).join(' ');

function zsh(models: readonly CommandModel[]): string {
  const leaf = (model: CommandModel) => [
    `      ${model.words.split(' ').at(-1)})`,
    `        ${zshArguments(model)} ;;`,
  ];
  const cases = models.flatMap((model) => {
    if (model.commands.length === 0) {
      return leaf(model);
    }
    return [
      `      ${model.words})`,
      '        if ((CURRENT == 2)); then',
      `          local -a below=(${zshList(model.commands)}); _describe command below; return`,
      '        fi',
      '        shift words; ((CURRENT--))',
      '        case $words[1] in',
      ...model.commands.flatMap(leaf),
      '        esac ;;',
    ];
  });
  return [
    '#compdef verfs',
    origin,
    '_verfs() {',
    '  if ((CURRENT == 2)); then',
    `    local -a commands=(${zshList(models)}); _describe command commands; return`,
    '  fi',
    '  shift words; ((CURRENT--))',
    '  case $words[1] in',
    ...cases,
    '  esac',
    '}',
    'if [[ $funcstack[1] == _verfs ]]; then _verfs "$@"; else compdef _verfs verfs; fi',
    '',
  ].join('\n');
}

function fishOption(condition: string, option: OptionModel): string {
  const names = [option.name, ...option.aliases].map((one) => (one.length === 1 ? `-s ${one}` : `-l ${one}`)).join(' ');
  const choices = option.choices.length > 0 ? ` -f -a ${quoted(option.choices.join(' '))}` : '';
  const value = option.takesValue ? ` -r${choices}` : '';
  return `complete -c verfs -n ${quoted(condition)} ${names}${value} -d ${quoted(plain(option.describe))}`;
}

function fish(models: readonly CommandModel[]): string {
  const none = '__fish_use_subcommand';
  const top = models.map(
    ({ words, describe }) => `complete -c verfs -f -n ${none} -a ${words} -d ${quoted(plain(describe))}`,
  );
  const each = flat(models).flatMap((model) => {
    const [first, second] = model.words.split(' ');
    const names = model.commands.map(({ words }) => words.split(' ').at(-1));
    const seen = `__fish_seen_subcommand_from ${first}`;
    const condition = second === undefined ? seen : `${seen}; and __fish_seen_subcommand_from ${second}`;
    const below = model.commands.map(({ words, describe }) => {
      const without = `${seen}; and not __fish_seen_subcommand_from ${names.join(' ')}`;
      return `complete -c verfs -f -n ${quoted(without)} -a ${words.split(' ').at(-1)} -d ${quoted(plain(describe))}`;
    });
    const choices = model.commands.length === 0 ? wordsAfter(model) : [];
    const values =
      choices.length === 0 ? [] : [`complete -c verfs -f -n ${quoted(condition)} -a ${quoted(choices.join(' '))}`];
    return [...below, ...values, ...model.options.map((option) => fishOption(condition, option))];
  });
  const common = commonOptionModels.map((option) => fishOption('true', option));
  return [origin, ...top, ...each, ...common, ''].join('\n');
}

const writers: Readonly<Record<Shell, (models: readonly CommandModel[]) => string>> = { bash, zsh, fish };

/** The script for each shell. */
export async function completionScripts(): Promise<Readonly<Record<Shell, string>>> {
  const models = await commandModels();
  return Object.fromEntries(shells.map((shell) => [shell, writers[shell](models)])) as Record<Shell, string>;
}
