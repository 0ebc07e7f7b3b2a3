import { type ChildProcess, spawn } from 'node:child_process';

/** How a command ended. */
export interface Outcome {
  /** -1 when a signal ended it. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly millis: number;
}

/** How a command is run. */
export interface CommandOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Written to its standard input. */
  readonly input?: string;
  /** It is killed, with all its children, after this time, and the test fails. */
  readonly timeoutMs?: number;
}

const defaultTimeoutMs = 60_000;

const running = new Set<ChildProcess>();

/** Kills what a test that failed may have left running. */
export function killRunning(): void {
  for (const child of running) {
    killGroup(child, 'SIGKILL');
  }
}

/** Kills a process that was started with `detached`, and its children. */
export function killGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) {
    return;
  }
  try {
    process.kill(-child.pid, signal);
  } catch {
    // Gone already.
  }
}

/** Runs `program` to its end. Every external command of the tests goes through here, so that none can hang them. */
export function run(program: string, args: readonly string[], options: CommandOptions = {}): Promise<Outcome> {
  const { cwd, env = process.env, input, timeoutMs = defaultTimeoutMs } = options;
  const began = performance.now();
  const child = spawn(program, args, { cwd, env, detached: true, stdio: ['pipe', 'pipe', 'pipe'] });
  running.add(child);
  const output = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output.stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    output.stderr += text;
  });
  child.stdin.on('error', () => undefined).end(input ?? '');
  return new Promise((resolve, reject) => {
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      killGroup(child, 'SIGKILL');
    }, timeoutMs);
    child.once('error', (error) => {
      running.delete(child);
      clearTimeout(timer);
      reject(error);
    });
    child.once('close', (code) => {
      running.delete(child);
      clearTimeout(timer);
      if (timedOut) {
        const shown = [program, ...args].join(' ');
        reject(new Error(`took more than ${timeoutMs} ms: ${shown}\n${output.stdout}\n${output.stderr}`));
      } else {
        resolve({ code: code ?? -1, ...output, millis: performance.now() - began });
      }
    });
  });
}

/** Runs `script` with `sh -e` and returns what it printed; the test fails when the script does. */
export async function shell(script: string, options: CommandOptions = {}): Promise<string> {
  const outcome = await run('sh', ['-e', '-c', script], options);
  if (outcome.code !== 0) {
    throw new Error(`exit code ${outcome.code}: ${script}\n${outcome.stdout}\n${outcome.stderr}`);
  }
  return outcome.stdout;
}
