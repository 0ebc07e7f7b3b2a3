import { isNativeError } from 'node:util/types';
import type { Case, Subject } from './cases.ts';

/** What came of a case: paths of the directory are made alike, numbers of files and stacks are left out. */
export type Outcome = { readonly value: unknown } | { readonly error: unknown };

const argumentCodes = /^ERR_/;

function plain(value: unknown, root: string): unknown {
  if (typeof value === 'string') {
    return value.replaceAll(root, '<root>');
  }
  if (Array.isArray(value)) {
    return value.map((one) => plain(one, root));
  }
  return value;
}

function plainError(error: unknown, root: string): unknown {
  // Node's own errors are of another realm than those of a test.
  if (!isNativeError(error)) {
    return { thrown: error };
  }
  const { errno, code, syscall, path, dest } = error as NodeJS.ErrnoException & { dest?: string };
  // Of wrong arguments the code is an interface, and the words are not.
  const isArgument = typeof code === 'string' && argumentCodes.test(code);
  const message = isArgument ? undefined : plain(error.message, root);
  return {
    type: error.name,
    code,
    errno,
    syscall,
    path: plain(path, root),
    dest: plain(dest, root),
    message,
  };
}

/** Runs a case. */
export async function outcomeOf(run: Case, subject: Subject): Promise<Outcome> {
  try {
    return { value: plain(await run(subject), subject.at()) };
  } catch (error) {
    return { error: plainError(error, subject.at()) };
  }
}
