import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { registered, unregister } from '../../packages/sdk/src/registry.ts';
import { type CommandOptions, killGroup, killRunning, type Outcome, run } from './command.ts';
import { detachBelow, mountpointsBelow } from './mounts.ts';

/** The root of the repository. */
export const repository = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');

/** The command, as it is installed. */
export const verfsProgram = join(repository, 'packages/cli/bin/verfs.js');

/** Begin of the names of all temporary directories of tests. */
export const sandboxPrefix = 'verfs-test-';

/** An error that a command reported with `--json`. */
export interface ReportedError {
  readonly code: string;
  readonly message: string;
  readonly path?: string;
}

/** What `verfs status --json` says of a mounted volume, as far as tests need it. */
export interface ReportedStatus {
  readonly state: string;
  readonly pid: number;
  readonly mountpoint: string;
  readonly volume: string;
  readonly access: string;
  readonly logFile: string;
}

/** A process that is still running. */
export interface Running {
  readonly child: ChildProcess;
  stdout(): string;
  stderr(): string;
  /** Its exit code; fails when it takes longer than `withinMs`. */
  ended(withinMs?: number): Promise<number>;
}

/** A directory of its own for one test, with a home, a volume and a mountpoint in it. Nothing of it stays. */
export class Sandbox implements AsyncDisposable {
  readonly root: string;
  readonly home: string;
  /** Nothing is there at first. */
  readonly volume: string;
  /** An empty directory. */
  readonly mountpoint: string;
  readonly #children: ChildProcess[] = [];
  readonly #daemons = new Set<number>();

  constructor() {
    this.root = mkdtempSync(join(tmpdir(), sandboxPrefix));
    this.home = join(this.root, 'home');
    this.volume = join(this.root, 'volume');
    this.mountpoint = join(this.root, 'mnt');
    mkdirSync(join(this.home, '.local', 'state'), { recursive: true });
    mkdirSync(this.mountpoint);
  }

  /** The environment of commands: this one's home, and no settings of the user who runs the tests. */
  get env(): Record<string, string> {
    const { PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', TMPDIR = tmpdir() } = process.env;
    const runtime = process.env['XDG_RUNTIME_DIR'];
    return { PATH, TMPDIR, HOME: this.home, LC_ALL: 'C.UTF-8', ...(runtime ? { XDG_RUNTIME_DIR: runtime } : {}) };
  }

  path(...names: string[]): string {
    return join(this.root, ...names);
  }

  inMount(...names: string[]): string {
    return join(this.mountpoint, ...names);
  }

  /** Runs `verfs`. */
  verfs(args: readonly string[], options: CommandOptions = {}): Promise<Outcome> {
    return run(process.execPath, [verfsProgram, ...args], { env: this.env, ...options });
  }

  /** Runs `verfs` with `--json`; the test fails when the command does. */
  async json<T>(args: readonly string[], options: CommandOptions = {}): Promise<T> {
    const outcome = await this.verfs([...args, '--json'], options);
    if (outcome.code !== 0) {
      throw new Error(`verfs ${args.join(' ')}: exit code ${outcome.code}: ${outcome.stdout}${outcome.stderr}`);
    }
    return JSON.parse(outcome.stdout) as T;
  }

  /** Makes the volume, when it is missing, and mounts it in a daemon. */
  async mount(args: readonly string[] = [], options: CommandOptions = {}): Promise<ReportedStatus> {
    const made = await this.verfs(['volume', 'create', this.volume]);
    if (made.code !== 0 && !made.stderr.includes('is a volume already')) {
      throw new Error(made.stderr);
    }
    const status = await this.json<ReportedStatus>(
      ['mount', this.mountpoint, '--volume', this.volume, ...args],
      options,
    );
    this.#daemons.add(status.pid);
    return status;
  }

  /** Unmounts. The kernel may still be letting go of a process that has ended: then the daemon lingers for a moment. */
  async unmount(): Promise<void> {
    const { daemon } = await this.json<{ readonly daemon: string }>(['unmount', this.mountpoint]);
    if (daemon === 'lingers') {
      await until('the daemon that lingered is gone', () => ![...this.#daemons].some(isDaemon));
    }
  }

  /** Starts `verfs`, in the directory `cwd`, and lets it run. */
  start(args: readonly string[], cwd = process.cwd()): Running {
    const child = spawn(process.execPath, [verfsProgram, ...args], {
      cwd,
      env: this.env,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#children.push(child);
    const output = { stdout: '', stderr: '' };
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      output.stdout += text;
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      output.stderr += text;
    });
    const end = new Promise<number>((resolve) => child.once('close', (code) => resolve(code ?? -1)));
    const ended = async (withinMs = 30_000) => {
      const late = sleep(withinMs, undefined, { ref: false }).then(() => {
        throw new Error(`still running after ${withinMs} ms: verfs ${args.join(' ')}\n${output.stderr}`);
      });
      return await Promise.race([end, late]);
    };
    return { child, stdout: () => output.stdout, stderr: () => output.stderr, ended };
  }

  /** Kills the daemon `pid` with SIGKILL and waits until it is gone. */
  async kill(pid: number): Promise<void> {
    process.kill(pid, 'SIGKILL');
    await until(`process ${pid} is gone`, () => !isAlive(pid));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    killRunning();
    for (const child of this.#children) {
      killGroup(child, 'SIGKILL');
    }
    for (const pid of [...this.#daemons].filter(isDaemon)) {
      process.kill(pid, 'SIGKILL');
    }
    await detachBelow(this.root);
    if (mountpointsBelow(this.root).length > 0) {
      throw new Error(`still mounted: ${mountpointsBelow(this.root).join(', ')}`);
    }
    for (const { uuid, volume } of registered()) {
      if (volume.startsWith(`${this.root}/`)) {
        unregister(uuid);
      }
    }
    rmSync(this.root, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** Whether the process `pid` exists. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Whether `pid` is still a daemon of ours: the number may have been given to another process. */
function isDaemon(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('daemon/main.js');
  } catch {
    return false;
  }
}

/** Waits until `holds` gives true; fails with `what` when that takes longer than `withinMs`. */
export async function until(what: string, holds: () => boolean | Promise<boolean>, withinMs = 15_000): Promise<void> {
  const end = performance.now() + withinMs;
  while (!(await holds())) {
    if (performance.now() > end) {
      throw new Error(`not after ${withinMs} ms: ${what}`);
    }
    await sleep(20);
  }
}
