/**
 * The commands as data, for man pages and completion: what the parser is told is recorded instead of parsed.
 * Never here: how a page or a script looks.
 */
import type { Argv, Options } from 'yargs';
import { type Command, type CommandGroup, commands, commonOptions, nameOf } from '../commands.ts';
import type { CommonArguments } from '../context.ts';

/** An option of a command. */
export interface OptionModel {
  /** Without dashes. */
  readonly name: string;
  /** Other names, without dashes. */
  readonly aliases: readonly string[];
  readonly takesValue: boolean;
  /** The only values, if there are such. */
  readonly choices: readonly string[];
  readonly describe: string;
}

/** A positional argument. */
export interface PositionalModel {
  readonly name: string;
  readonly describe: string;
  readonly choices: readonly string[];
}

/** A command, and those below it. */
export interface CommandModel {
  /** `snapshot create`; empty for `verfs` itself. */
  readonly words: string;
  /** `snapshot create <name>`. */
  readonly usage: string;
  readonly describe: string;
  readonly positionals: readonly PositionalModel[];
  readonly options: readonly OptionModel[];
  readonly examples: readonly (readonly [command: string, what: string])[];
  readonly commands: readonly CommandModel[];
}

const textsOf = (values: unknown): string[] => (Array.isArray(values) ? values.map(String) : []);

function optionModel(name: string, spec: Options): OptionModel {
  return {
    name,
    aliases: [spec.alias ?? []].flat(),
    takesValue: spec.type !== 'boolean',
    choices: textsOf(spec.choices),
    describe: spec.describe ?? '',
  };
}

/** The options of every command. */
export const commonOptionModels: readonly OptionModel[] = [
  ...Object.entries(commonOptions).map(([name, spec]) => optionModel(name, spec)),
  { name: 'help', aliases: ['h'], takesValue: false, choices: [], describe: 'Show help' },
];

interface Recorded {
  readonly positionals: PositionalModel[];
  readonly options: OptionModel[];
  readonly examples: [string, string][];
}

/** What stands in for the parser: it notes what it is told, and takes everything else in silence. */
function recorder(into: Recorded): Argv<CommonArguments> {
  const notes: Readonly<Record<string, (...args: never[]) => void>> = {
    option: (name: string, spec: Options) => {
      into.options.push(optionModel(name, spec));
    },
    positional: (name: string, spec: Options) => {
      into.positionals.push({ name, describe: spec.describe ?? '', choices: textsOf(spec.choices) });
    },
    example: (command: string, what: string) => {
      into.examples.push([command.replace('$0', 'verfs'), what]);
    },
  };
  const stand: object = new Proxy(
    {},
    {
      get: (_, method) => {
        if (method === 'then') {
          return undefined;
        }
        return (...args: never[]) => {
          notes[String(method)]?.(...args);
          return stand;
        };
      },
    },
  );
  return stand as Argv<CommonArguments>;
}

async function commandModel(entry: Command | CommandGroup, above: string): Promise<CommandModel> {
  const words = `${above}${nameOf(entry)}`;
  const recorded: Recorded = { positionals: [], options: [], examples: [] };
  const below: CommandModel[] = [];
  if ('commands' in entry) {
    recorded.examples.push(...entry.examples.map(([command, what]): [string, string] => [`verfs ${command}`, what]));
    for (const one of entry.commands) {
      below.push(await commandModel(one, `${words} `));
    }
  } else {
    await (await entry.load()).builder(recorder(recorded));
  }
  return { words, usage: `${above}${entry.command}`, describe: entry.describe, ...recorded, commands: below };
}

/** Every command. */
export async function commandModels(): Promise<readonly CommandModel[]> {
  const models: CommandModel[] = [];
  for (const entry of commands) {
    models.push(await commandModel(entry, ''));
  }
  return models;
}
