/**
 * The processes that serve mounted volumes. Never here: how commands look. A request goes in when a mount begins;
 * status and errors come out.
 */
export { type HostSurroundings, hostVolume, type Ready } from './host.ts';
export { type DaemonRequest, daemonRequest } from './request.ts';
export { type HangUp, stopOnSignals, surviveDefects } from './signals.ts';
export { startDaemon } from './start.ts';
