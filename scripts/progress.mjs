/** Steps with a line each: what it is, how it went, how long it took. Node built-ins only. */
import { spawn } from 'node:child_process';

const heartbeatMs = 15_000;
/** Of the output of a program that failed: its first and its last lines are shown, less what tells of success. */
const quotedLines = { first: 60, last: 120 };
const success =
  /^\s*(Compiling|Checking|Downloaded|Running|Doc-tests) |^running \d+ tests?$|^test .* \.\.\. ok$|^test result: ok/;

/** What a person has to do before the command can go on. It is shown without a stack. */
export class Hindrance extends Error {}

const seconds = (began) => `${((performance.now() - began) / 1000).toFixed(1)} s`;

function line(text) {
  const clear = process.stderr.isTTY ? '\r\u001b[K' : '';
  process.stderr.write(`${clear}${text}\n`);
}

function transient(text) {
  if (process.stderr.isTTY) {
    process.stderr.write(`\r\u001b[K${text.slice(0, (process.stderr.columns ?? 80) - 1)}`);
  }
}

/**
 * Runs `work`, which gets a function that shows what it is at, and shows how it went. `work` may return a remark, or
 * nothing when there was nothing to do: then no line is shown.
 */
export async function step(name, work) {
  const began = performance.now();
  let detail = '';
  const shown = () => `  … ${name}: ${seconds(began)}${detail === '' ? '' : `, ${detail}`}`;
  const beat = setInterval(() => line(shown()), heartbeatMs);
  const redraw = setInterval(() => transient(shown()), 500);
  try {
    const remark = await work((text) => {
      detail = text;
    });
    if (remark !== undefined) {
      line(`  ✓ ${name}: ${remark} (${seconds(began)})`);
    } else {
      transient('');
    }
  } finally {
    clearInterval(beat);
    clearInterval(redraw);
  }
}

/** What a line of output of cargo or npm says about how far it is. */
function progressIn(text) {
  const compiling = text.match(/^\s*(Compiling|Checking) (\S+) v/);
  if (compiling !== null) {
    return { compiled: true, text: `${compiling[1].toLowerCase()} ${compiling[2]}` };
  }
  const waiting = text.match(/^\s*(Blocking waiting for file lock|Downloading|Updating|Building)\b.*/);
  return waiting === null ? undefined : { compiled: false, text: waiting[0].trim() };
}

function quote(output) {
  const told = output.split('\n').filter((text) => !success.test(text));
  const lines = told
    .join('\n')
    .replaceAll(/\n{3,}/g, '\n\n')
    .trim()
    .split('\n');
  const omitted = lines.length - quotedLines.first - quotedLines.last;
  return omitted <= 0
    ? lines.join('\n')
    : [...lines.slice(0, quotedLines.first), `(${omitted} lines)`, ...lines.slice(-quotedLines.last)].join('\n');
}

/**
 * Runs a program; what it says is shown when it fails.
 *
 * @param {{ cwd?: string, env?: Record<string, string | undefined>, timeoutMs?: number, at?: (text: string) => void }} options
 * @returns {Promise<string>} Its output.
 */
export function quietly(program, args, options = {}) {
  const { cwd, env = process.env, timeoutMs = 30 * 60_000, at } = options;
  const child = spawn(program, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  let output = '';
  let compiled = 0;
  const take = (text) => {
    output += text;
    for (const said of text.split('\n')) {
      const progress = progressIn(said);
      if (progress !== undefined) {
        compiled += progress.compiled ? 1 : 0;
        at?.(compiled === 0 ? progress.text : `${compiled} crates, ${progress.text}`);
      }
    }
  };
  child.stdout.setEncoding('utf8').on('data', take);
  child.stderr.setEncoding('utf8').on('data', take);
  const stop = (signal) => {
    try {
      process.kill(-child.pid, signal);
    } catch {
      // It has ended.
    }
  };
  const interrupt = () => {
    stop('SIGTERM');
    process.exit(130);
  };
  process.once('SIGINT', interrupt);
  process.once('SIGTERM', interrupt);
  return new Promise((resolve, reject) => {
    const shown = [program, ...args].join(' ');
    const timer = setTimeout(() => {
      output += `\n(stopped after ${timeoutMs / 1000} s)\n`;
      stop('SIGKILL');
    }, timeoutMs);
    const settle = (settlement) => {
      clearTimeout(timer);
      process.off('SIGINT', interrupt);
      process.off('SIGTERM', interrupt);
      settlement();
    };
    child.once('error', (error) => settle(() => reject(new Hindrance(`${shown} cannot be run: ${error.message}`))));
    child.once('close', (code) =>
      settle(() => {
        if (code === 0) {
          resolve(output);
          return;
        }
        reject(new Hindrance(`${quote(output)}\n\nthis failed: ${shown}`));
      }),
    );
  });
}

/** Runs a script's `main`; a hindrance ends it with one message and exit code 1. */
export async function runScript(main) {
  try {
    await main();
  } catch (error) {
    if (!(error instanceof Hindrance)) {
      throw error;
    }
    line(error.message);
    process.exitCode = 1;
  }
}
