/**
 * Policies: when snapshots of a volume are taken by themselves, and which of them are kept.
 * Never here: timers, sockets, or how a snapshot is made. A policy, two clocks and a list of snapshots go in; calls that
 * take and delete snapshots come out.
 */
export { calendar, type Span, spans } from './calendar.ts';
export { type Clock, localZone, systemClock } from './clock.ts';
export { changePolicy, policyFile, readPolicy } from './file.ts';
export {
  noPolicy,
  type Policy,
  type PolicyChanges,
  type PolicyKey,
  policyKeyNames,
  policyKeys,
  policyRows,
} from './keys.ts';
export { automaticName, isAutomatic } from './names.ts';
export { type KeepReason, type Kept, type Moment, type Prunable, planRetention, type Retention } from './retention.ts';
export { type PolicyRun, PolicyRunner, type PolicyStatus, type RunCalls } from './runner.ts';
export { type Schedule, scheduleFault, scheduleForms, scheduleOf } from './schedule.ts';
