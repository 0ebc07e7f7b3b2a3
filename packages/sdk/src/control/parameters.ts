import { z } from 'zod';

const copied = { verify: z.boolean(), compare: z.boolean(), leaveOut: z.boolean() };

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
  usage: z.strictObject({ path: z.string() }),
  import: z.strictObject({ source: z.string(), target: z.string(), ...copied }),
  export: z.strictObject({ snapshot: z.string().optional(), path: z.string(), target: z.string(), ...copied }),
  freeze: z.strictObject({ forMs: z.number().int().min(1) }),
  configSet: z.strictObject({ key: z.string(), value: z.union([z.string(), z.number()]) }),
  policySet: z.strictObject({ changes: z.record(z.string(), z.union([z.string(), z.number()])) }),
  scrub: z.strictObject({ rateBytes: z.number().int().min(1).optional() }),
  policyRun: z.strictObject({ mode: z.enum(['done', 'dry-run']) }),
  vaultCreate: z.strictObject({ compressed: z.boolean(), socket: z.string() }),
  vaultUnlock: z.strictObject({ socket: z.string() }),
  vaultCheck: z.strictObject({ socket: z.string() }),
  vaultLock: z.strictObject({ graceMs: z.number().int().min(0).max(0xffff_ffff) }),
  vaultDamaged: z.strictObject({ socket: z.string() }),
  vaultChange: z.strictObject({ socket: z.string() }),
  vaultRekey: z.strictObject({ socket: z.string() }),
  vaultAutoLock: z.strictObject({
    afterMs: z
      .number()
      .int()
      .min(0)
      .max(2 ** 31 - 1),
  }),
};

/** The parameters, by method. */
export type ControlParameters = {
  readonly [M in keyof typeof controlParameters]: z.output<(typeof controlParameters)[M]>;
};
