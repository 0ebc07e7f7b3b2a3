/**
 * Metrics of a served volume, for Prometheus. Never here: how they come about. Statistics go in, text comes out.
 */
export { dashboardJson } from './dashboard.ts';
export { infoMetric, metrics, operationMetric } from './definitions.ts';
export { metricsMarkdown } from './docs.ts';
export { exposition, type MetricsIdentity } from './exposition.ts';
export { type MetricsServer, serveMetrics } from './server.ts';
