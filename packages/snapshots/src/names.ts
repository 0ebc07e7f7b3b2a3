const pattern = /^auto-\d{4}-\d{2}-\d{2}T\d{2}-\d{2}-\d{2}Z$/;

/** The name of a snapshot that a policy takes at `time`: `auto-2026-11-28T14-00-00Z`. */
export const automaticName = (time: number): string =>
  `auto-${new Date(time).toISOString().slice(0, 19).replaceAll(':', '-')}Z`;

/** Whether a policy made the snapshot of this name: it may prune it then, and no other. */
export const isAutomatic = (name: string): boolean => pattern.test(name);
