/** `npm run build`: builds what changed. */
import { prepare } from './prepare.mjs';
import { runScript } from './progress.mjs';

await runScript(prepare);
