import { errorCodes, errorTable } from './table.ts';

/** The text of docs/ERRORS.md. */
export function errorsMarkdown(): string {
  const rows = errorCodes.map((code) => {
    const { exitCode, summary, advice } = errorTable[code];
    return `| <a id="${code.toLowerCase()}"></a>\`${code}\` | ${exitCode} | ${summary} | ${advice.replaceAll('{path}', 'PATH')} |`;
  });
  return [
    '# Errors',
    '',
    'Generated from `packages/errors/src/table.ts` by `npm run generate`; a test compares them.',
    '',
    'Every error of the command, the library and the daemon has one of these codes. The command prints one line on',
    'standard error, or with `--json` an object `{"error": {"code", "message", "path"}}` on standard output, and exits',
    'with the exit code. In the library each code is a class of its own (`MountpointMissingError`, …) with `code`,',
    '`path` and `cause`. Codes and exit codes are stable. [TROUBLESHOOTING.md](TROUBLESHOOTING.md) has more about some.',
    '',
    '| code | exit code | what happened | what to do |',
    '|---|---|---|---|',
    ...rows,
    '',
  ].join('\n');
}
