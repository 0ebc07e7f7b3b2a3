/**
 * The configuration of VerFS: one definition per key, and from it validation, defaults and docs/CONFIG.md.
 * Never here: what a setting does. Data flows from the file and the command line into one checked `Config`.
 */
export { configMarkdown } from './docs.ts';
export { duration, integer, type KeyDefinition, text } from './key.ts';
export { type Config, type ConfigKey, configKeyNames, configKeys, type LiveKey, liveKeyNames } from './keys.ts';
export { checkKey, checkLive } from './live.ts';
export {
  currentSurroundings,
  defaultConfig,
  defaultFiles,
  defaultsOf,
  type LoadedConfig,
  loadConfig,
  parseToml,
  readIfPresent,
  resolvePath,
  type Surroundings,
} from './load.ts';
export { type MetricsAddress, parseMetricsAddress } from './metrics-address.ts';
export { durationUnits, formatQuantity, parseQuantity, sizeUnits } from './units.ts';
export { flatten, type KeyTable, nearestKey, type RawValues, type ValuesOf, validate } from './validate.ts';
