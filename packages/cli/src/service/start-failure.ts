/** What a unit that did not start says by the status with which its program ended. Never here: asking systemd. */
import { errorCodes, errorTable } from '@verfs/errors';

/**
 * The advice for a unit that ended with `exitStatus`: exit codes of `verfs` are stable, and each is of one error. Of a
 * status that is none of them the journal alone can tell, and of 1 and 2 as well, with which Node.js and shells end, too.
 */
export function startAdvice(unit: string, scope: 'system' | 'user', exitStatus: number): string {
  const journal = `\`journalctl ${scope === 'user' ? '--user ' : ''}-u ${unit}\``;
  const code = errorCodes.find((name) => exitStatus > 2 && errorTable[name].exitCode === exitStatus);
  return code === undefined
    ? `${journal} tells more.`
    : `It ended with ${code}: ${errorTable[code].summary} ${journal} has the whole line.`;
}
