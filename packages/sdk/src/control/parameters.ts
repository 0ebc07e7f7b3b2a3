import { z } from 'zod';

const named = z.strictObject({ name: z.string() });
const tagged = z.strictObject({ name: z.string(), tag: z.string() });

/** What the methods of the control socket that take parameters want; the others take none. */
export const controlParameters = {
  snapshotCreate: z.strictObject({ name: z.string(), note: z.string() }),
  snapshotDelete: named,
  snapshotHold: tagged,
  snapshotRelease: tagged,
  snapshotDiff: z.strictObject({ from: z.string(), to: z.string().optional() }),
  snapshotRollback: named,
  snapshotClone: z.strictObject({ name: z.string(), path: z.string() }),
  snapshotRestore: z.strictObject({ name: z.string(), path: z.string(), target: z.string().optional() }),
  snapshotSend: z.strictObject({
    name: z.string(),
    from: z.string().optional(),
    resume: z.string().optional(),
    socket: z.string(),
  }),
  snapshotReceive: z.strictObject({ rollback: z.boolean(), socket: z.string() }),
  policySet: z.strictObject({ changes: z.record(z.string(), z.union([z.string(), z.number()])) }),
  policyRun: z.strictObject({ mode: z.enum(['done', 'dry-run']) }),
};

/** The parameters, by method. */
export type ControlParameters = {
  readonly [M in keyof typeof controlParameters]: z.output<(typeof controlParameters)[M]>;
};
