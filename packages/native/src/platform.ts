import { platformArchTriples } from '@napi-rs/triples';
import { InternalError } from '@verfs/errors';

/** What decides which build of the addon fits. */
export interface Platform {
  readonly platform: string;
  readonly arch: string;
  /** The C library of Linux. */
  readonly abi: 'gnu' | 'musl';
}

interface Triple {
  readonly platformArchABI: string;
  readonly abi: string | null;
}

/** The platform of this process. */
export function currentPlatform(): Platform {
  const report = process.report?.getReport() as { header?: { glibcVersionRuntime?: string } } | undefined;
  const abi = report?.header?.glibcVersionRuntime === undefined ? 'musl' : 'gnu';
  return { platform: process.platform, arch: process.arch, abi };
}

function tripleOf(on: Platform): Triple {
  const table = platformArchTriples as Readonly<Record<string, Readonly<Record<string, readonly Triple[]>>>>;
  const triple = table[on.platform]?.[on.arch]?.find(({ abi }) => abi === on.abi);
  if (on.platform !== 'linux' || triple === undefined) {
    throw new InternalError(`VerFS does not run on ${on.platform} ${on.arch}`, { advice: 'It needs 64-bit Linux.' });
  }
  return triple;
}

/** Name of the addon's file for `on`, by the table of @napi-rs/triples: `verfs.linux-x64-gnu.node`. */
export const addonFile = (on: Platform): string => `verfs.${tripleOf(on).platformArchABI}.node`;

/** Name of the package that has the addon for `on`: what npm installs of the optional dependencies of `verfs`. */
export const addonPackage = (on: Platform): string => `@verfs/bindings-${tripleOf(on).platformArchABI}`;
