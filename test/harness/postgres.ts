import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './command.ts';
import { asNobody, isRoot, nobody } from './others.ts';
import { isAlive, type Sandbox, until } from './sandbox.ts';

const minutes = 60_000;

/** A PostgreSQL server whose data are in the mount of a sandbox. It does not run as root, since it refuses to. */
export class Postgres implements AsyncDisposable {
  readonly #sandbox: Sandbox;
  readonly #data: string;
  readonly #sockets: string;
  #master: number | undefined;
  /** Of System V: what is left of a server that was killed, besides its data. */
  #sharedMemory: string | undefined;

  constructor(sandbox: Sandbox) {
    this.#sandbox = sandbox;
    this.#data = sandbox.inMount('data');
    this.#sockets = sandbox.path('sockets');
  }

  /** Runs one of its programs, which must not fail; what it printed. */
  async run(program: string, args: readonly string[], input = ''): Promise<string> {
    const [first, ...others] = this.#command(program, args);
    const options = { cwd: this.#sockets, env: this.#env(), input, timeoutMs: 2 * minutes };
    const { code, stdout, stderr } = await run(first as string, others, options);
    if (code !== 0) {
      throw new Error(`${program} ${args.join(' ')}: exit code ${code}\n${stdout}\n${stderr}\n${this.log()}`);
    }
    return stdout.trim();
  }

  /** Runs statements; what they gave, a row a line. */
  sql(statements: string): Promise<string> {
    return this.run('psql', ['-qAtX', '-v', 'ON_ERROR_STOP=1', '-f', '-', 'postgres'], statements);
  }

  /** Starts one of its programs with `input`; what it prints goes to `take`. */
  start(program: string, args: readonly string[], input: string, take: (text: string) => void): ChildProcess {
    const [first, ...others] = this.#command(program, args);
    const options = { cwd: this.#sockets, env: this.#env(), detached: true };
    const child = spawn(first as string, others, { ...options, stdio: ['pipe', 'pipe', 'ignore'] });
    child.stdin.on('error', () => undefined).end(input);
    child.stdout.setEncoding('utf8').on('data', take);
    return child;
  }

  /** Makes the data directory, and starts the server. */
  async create(): Promise<void> {
    for (const directory of [this.#data, this.#sockets]) {
      mkdirSync(directory);
      chmodSync(directory, 0o700);
      if (isRoot) {
        chownSync(directory, nobody.uid, nobody.gid);
      }
    }
    await this.run('initdb', ['-D', this.#data, '-U', 'tester', '-A', 'trust', '--data-checksums', '--no-locale']);
    await this.open();
  }

  /** Starts the server; it recovers what it had when it was killed. */
  async open(): Promise<void> {
    const options = `-k ${this.#sockets} -c listen_addresses='' -c max_wal_size=64MB -c checkpoint_timeout=30s`;
    const log = join(this.#sockets, 'log');
    await this.run('pg_ctl', ['-D', this.#data, '-l', log, '-w', '-t', '100', '-o', options, 'start']);
    const lines = readFileSync(join(this.#data, 'postmaster.pid'), 'utf8').split('\n');
    this.#master = Number(lines[0]);
    this.#sharedMemory = lines[6]?.trim().split(/\s+/)[1];
  }

  async close(): Promise<void> {
    await this.run('pg_ctl', ['-D', this.#data, '-w', '-t', '100', '-m', 'fast', 'stop']);
    this.#master = undefined;
    this.#sharedMemory = undefined;
  }

  /** Kills all processes of the server at once. */
  async kill(): Promise<void> {
    const master = this.#master;
    if (master === undefined) {
      return;
    }
    const processes = [master, ...childrenOf(master)];
    for (const pid of processes.filter(isAlive)) {
      process.kill(pid, 'SIGKILL');
    }
    await until('the server is gone', () => !processes.some(isAlive), 30_000);
    this.#master = undefined;
  }

  /** What the server said. */
  log(): string {
    try {
      return readFileSync(join(this.#sockets, 'log'), 'utf8').split('\n').slice(-40).join('\n');
    } catch {
      return '';
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    if (this.#sharedMemory !== undefined) {
      await run('ipcrm', ['-m', this.#sharedMemory]);
    }
  }

  #command(program: string, args: readonly string[]): string[] {
    return [...asNobody, program, ...args];
  }

  #env(): Record<string, string> {
    return { ...this.#sandbox.env, HOME: this.#sockets, PGHOST: this.#sockets, PGUSER: 'tester' };
  }
}

function childrenOf(parent: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[1] === String(parent);
      } catch {
        return false;
      }
    })
    .map(Number);
}
