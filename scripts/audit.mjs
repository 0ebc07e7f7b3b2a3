/** `npm run audit`: known vulnerabilities in dependencies. */
import { checkAdvisories } from './advisories.mjs';
import { runScript, step } from './progress.mjs';

await runScript(() =>
  step('advisories', async (at) => {
    const state = await checkAdvisories(at);
    process.exitCode = Object.values(state).includes('unreachable') ? 2 : 0;
    return Object.entries(state)
      .map(([kind, what]) => `${kind} ${what}`)
      .join(', ');
  }),
);
