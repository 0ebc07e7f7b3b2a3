/**
 * The library for `require`, which Node 20 has not for ES modules: everything begins with a call that gives a promise, so
 * the modules are imported by the first one. Classes of errors are told by their codes.
 */
const calls = ['connect', 'create', 'inspect', 'open'];

/** The classes of errors of `errors`, a module, with their codes. */
function errorClasses(errors) {
  const isClass = (value) => typeof value === 'function' && value.prototype instanceof errors.VerfsError;
  return Object.entries(errors)
    .filter(([, value]) => isClass(value))
    .map(([name, Class]) => [name, new Class('').code])
    .sort(([a], [b]) => a.localeCompare(b, 'en'));
}

/** Texts of packages/sdk/commonjs/index.cjs and index.d.cts. */
export function commonjs(errors) {
  const classes = errorClasses(errors);
  const code = `/** Generated from packages/errors and packages/sdk by \`npm run generate\`: the library for \`require\`. */
'use strict';

let loading;
const library = () => {
  loading ??= import('../dist/index.js');
  return loading;
};
const later =
  (name) =>
  async (...args) =>
    (await library()).Volume[name](...args);
/** A class of errors: \`instanceof\` tells them by their code, \`new\` is not for callers. */
const told = (isOne) => class { static [Symbol.hasInstance](error) { return isOne(error?.code); } };
const withCode = (wanted) => told((code) => code === wanted);

exports.Volume = { ${calls.map((name) => `${name}: later('${name}')`).join(', ')} };
exports.version = require('../package.json').version;
exports.VerfsError = told((code) => typeof code === 'string' && code.startsWith('VERFS_E_'));
${classes.map(([name, code]) => `exports.${name} = withCode('${code}');`).join('\n')}
`;
  const types = `/** Generated from packages/errors and packages/sdk by \`npm run generate\`: types of the library for \`require\`. */
import type * as library from '../dist/index.js' with { 'resolution-mode': 'import' };

export type * from '../dist/index.js' with { 'resolution-mode': 'import' };
/** Where volumes are made, opened and connected to. */
export declare const Volume: Pick<typeof library.Volume, ${calls.map((name) => `'${name}'`).join(' | ')}>;
export type Volume = library.Volume;
export declare const version: string;
/** A class of errors, for \`instanceof\`. */
interface Told<E> {
  [Symbol.hasInstance](error: unknown): error is E;
}
export declare const VerfsError: Told<library.VerfsError>;
${classes.map(([name]) => `export declare const ${name}: Told<library.${name}>;`).join('\n')}
`;
  return { code, types };
}
