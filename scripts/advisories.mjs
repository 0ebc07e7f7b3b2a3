/** Known vulnerabilities in dependencies, where the databases can be reached. Node built-ins only. */
import { spawnSync } from 'node:child_process';
import { denyProgram } from './deny.mjs';
import { Hindrance } from './progress.mjs';
import { root } from './stamp.mjs';

const timeoutMs = 120_000;

function ask(program, args, unreachable) {
  const said = spawnSync(program, args, { cwd: root, encoding: 'utf8', timeout: timeoutMs });
  const text = `${said.stdout ?? ''}${said.stderr ?? ''}`;
  if (said.status === 0) {
    return 'checked';
  }
  if (said.error !== undefined || unreachable.test(text)) {
    return 'unreachable';
  }
  throw new Hindrance(text.trim());
}

/** Fails for a known vulnerability. Says for each kind of dependency whether its database could be reached. */
export async function checkAdvisories(at) {
  const program = await denyProgram(at);
  at('asking the databases');
  return {
    Rust: ask(program, ['check', 'advisories'], /failed to fetch advisory database/),
    npm: ask(
      'npm',
      ['audit', '--audit-level=high'],
      /audit endpoint returned an error|ENOTFOUND|EAI_AGAIN|ECONNREFUSED/,
    ),
  };
}
