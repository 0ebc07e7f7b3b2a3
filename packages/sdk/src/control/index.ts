/**
 * The control socket of a daemon, from both sides: JSON-RPC 2.0 over a Unix socket that only its owner may use.
 * Never here: what the methods do. Requests come from commands and programs, and end in the handlers of a daemon.
 */
export { findServed, refuseUnserved, VolumeClient } from './client.ts';
export type { DaemonStatus, Unmounted } from './protocol.ts';
