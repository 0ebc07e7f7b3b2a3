/**
 * Calls of one kind that may be in the engine at once, for each thread of JavaScript. Further ones wait here, as promises
 * that hold nothing but their arguments: what a call copies is bounded by this.
 */
const callsMax = 64;

/** What a call does there: who looks never waits for those who change something, nor these for the disk. */
export type CallKind = 'look' | 'change' | 'sync';

/** A gate for calls of one kind. */
class Gate {
  #running = 0;
  readonly #waiting: (() => void)[] = [];
  #first = 0;

  /** Runs `call` when there is room for it. */
  async through<T>(call: () => Promise<T>): Promise<T> {
    if (this.#running < callsMax) {
      this.#running += 1;
    } else {
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
      });
    }
    try {
      return await call();
    } finally {
      this.#leave();
    }
  }

  /** Ends a call, and lets the longest waiting one in. */
  #leave(): void {
    const next = this.#waiting[this.#first];
    if (next === undefined) {
      this.#running -= 1;
      return;
    }
    this.#first += 1;
    // An array that is only read from the front is cut from time to time, not moved each time.
    if (this.#first > 1024) {
      this.#waiting.splice(0, this.#first);
      this.#first = 0;
    }
    next();
  }
}

const gates: Readonly<Record<CallKind, Gate>> = { look: new Gate(), change: new Gate(), sync: new Gate() };

/** What the system calls do that are no changes. */
const kinds: Readonly<Record<string, CallKind | undefined>> = {
  access: 'look',
  close: 'look',
  fdatasync: 'sync',
  fstat: 'look',
  fsync: 'sync',
  lstat: 'look',
  open: 'look',
  opendir: 'look',
  read: 'look',
  readlink: 'look',
  realpath: 'look',
  scandir: 'look',
  stat: 'look',
  statfs: 'look',
  watch: 'look',
};

/** Runs `call`, which is what the system call `syscall` does, when there is room for it. */
export const throughGate = <T>(syscall: string, call: () => Promise<T>): Promise<T> =>
  gates[kinds[syscall] ?? 'change'].through(call);
