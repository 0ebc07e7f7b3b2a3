import { resolve } from 'node:path';
import type {
  ExportSource,
  TransferCalls,
  TransferLook,
  TransferOptions,
  TransferProgress,
  TransferReport,
} from '@verfs/native';
import { functionOf, objectOf, optionsOf, signalOf, textOf } from './arguments.ts';
import type { Cancellable } from './cancellable.ts';

/** How often a copy that runs is looked at, in milliseconds. */
const lookEveryMs = 250;

/** How a tree is copied. */
export interface CopyOptions extends Cancellable {
  /** Whether files are read back from where they were stored; by default they are. */
  readonly verify?: boolean | undefined;
  /** Whether files that an earlier run copied are compared by content, not by size and time alone. */
  readonly compare?: boolean | undefined;
  /** Whether what cannot be copied is left out, and told; by default it keeps the copy from getting its name. */
  readonly leaveOut?: boolean | undefined;
  /** Called several times a second. What it throws rejects the call; the copy is stopped then. */
  readonly onProgress?: ((progress: TransferProgress) => Promise<void> | void) | undefined;
}

/** From where to where an import goes. */
export const importPlaces = (source: string, target: string): [source: string, target: string] => [
  resolve(textOf('source', source)),
  textOf('target', target),
];

/** From where to where an export goes. */
export function exportPlaces(source: ExportSource, target: string): [source: ExportSource, target: string] {
  const { snapshot, path } = objectOf('source', source);
  const from = snapshot === undefined ? {} : { snapshot: textOf('source.snapshot', snapshot) };
  return [{ ...from, path: textOf('source.path', path) }, resolve(textOf('target', target))];
}

/** What the engine takes of the options. */
export function transferOptionsOf(options: CopyOptions): TransferOptions {
  const { verify, compare, leaveOut } = optionsOf(options);
  return { verify: verify ?? true, compare: compare ?? false, leaveOut: leaveOut ?? false };
}

async function watched(
  options: CopyOptions,
  run: (onBegin: (look: TransferLook) => void, signal: AbortSignal | undefined) => Promise<TransferReport>,
): Promise<TransferReport> {
  const signal = signalOf(options);
  const onProgress = functionOf('onProgress', options.onProgress);
  if (onProgress === undefined) {
    return await run(() => undefined, signal);
  }
  const failed = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  let isTelling = false;
  const thrown = new Promise<never>((_, reject) => {
    failed.signal.addEventListener('abort', () => reject(failed.signal.reason), { once: true });
  });
  // Nobody may be waiting for it.
  thrown.catch(() => undefined);
  const onBegin = (look: TransferLook) => {
    timer = setInterval(async () => {
      if (isTelling) {
        return;
      }
      isTelling = true;
      try {
        await onProgress(look());
      } catch (error) {
        failed.abort(error);
      }
      isTelling = false;
    }, lookEveryMs).unref();
  };
  try {
    return await Promise.race([run(onBegin, AbortSignal.any([failed.signal, ...(signal ? [signal] : [])])), thrown]);
  } finally {
    clearInterval(timer);
  }
}

/** Copies what is at `source` on this machine to `target` in the volume. */
export function importTree(
  calls: Pick<TransferCalls, 'import'>,
  [source, target]: readonly [source: string, target: string],
  options: CopyOptions,
): Promise<TransferReport> {
  const how = transferOptionsOf(options);
  return watched(options, (onBegin, signal) => calls.import(source, target, how, onBegin, signal));
}

/** Copies `source` to `target` on this machine. */
export function exportTree(
  calls: Pick<TransferCalls, 'export'>,
  [source, target]: readonly [source: ExportSource, target: string],
  options: CopyOptions,
): Promise<TransferReport> {
  const how = transferOptionsOf(options);
  return watched(options, (onBegin, signal) => calls.export(source, target, how, onBegin, signal));
}
