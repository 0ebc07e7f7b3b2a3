/**
 * The errors of VerFS: one table, and from it a class per code, exit codes and docs/ERRORS.md.
 * Never here: where errors are thrown or printed. Every package imports this one; it imports none of ours.
 */
export * from './classes.ts';
export { errorsMarkdown } from './docs.ts';
export { type ErrorDetails, type ErrorRecord, isErrorRecord, shellQuoted, VerfsError } from './error.ts';
export { type ErrorCode, type ErrorEntry, errorCodes, errorTable, isErrorCode } from './table.ts';
