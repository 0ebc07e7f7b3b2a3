/**
 * Imported first by each process with cases: the loader, and what the cases take from a newer Node than the oldest that
 * VerFS runs on. Time limits of the cases are for an idle machine: here they are longer.
 */
import { register } from 'node:module';
import { isNativeError } from 'node:util/types';

const patience = 4;

register('./hooks.mjs', import.meta.url);

const { setTimeout: wait } = globalThis;
globalThis.setTimeout = Object.assign((work, ms, ...rest) => wait(work, ms * patience, ...rest), wait);

Error.isError ??= isNativeError;
Promise.withResolvers ??= () => {
  let settle;
  const promise = new Promise((resolve, reject) => {
    settle = { resolve, reject };
  });
  return { promise, ...settle };
};
