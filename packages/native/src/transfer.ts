import type { TransferOptions, TransferProgress, TransferReport } from '@verfs/bindings';

export type { TransferOptions, TransferProgress, TransferReport } from '@verfs/bindings';

/** What is exported: a path in the volume, or in one of its snapshots. */
export interface ExportSource {
  readonly snapshot?: string | undefined;
  /** From the root of the volume. */
  readonly path: string;
}

/** How far a copy is, for whoever asks. */
export type TransferLook = () => TransferProgress;

/** Copies between a volume that this process has open and the file systems of this machine. */
export interface TransferCalls {
  /** Copies what is at `source` on this machine to `target` in the volume. `onBegin` is given how to see how far it is. */
  import(
    source: string,
    target: string,
    options: TransferOptions,
    onBegin: (look: TransferLook) => void,
    signal?: AbortSignal | undefined,
  ): Promise<TransferReport>;
  /** Copies `source` to `target` on this machine. */
  export(
    source: ExportSource,
    target: string,
    options: TransferOptions,
    onBegin: (look: TransferLook) => void,
    signal?: AbortSignal | undefined,
  ): Promise<TransferReport>;
}
