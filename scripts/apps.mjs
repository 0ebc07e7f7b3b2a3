/** The programs of other projects that the tests in test/apps run in a mount. Node built-ins only. */
import { existsSync, readdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { cargoTool, toolDirectory } from './cargo-tool.mjs';
import { Hindrance } from './progress.mjs';
import { find, installPackage } from './system.mjs';

/** Programs that the tests run by name, and the Debian packages that have them. */
const packages = {
  fio: 'fio',
  getfacl: 'acl',
  getfattr: 'attr',
  git: 'git',
  initdb: 'postgresql',
  pgbench: 'postgresql',
  rsync: 'rsync',
  setpriv: 'util-linux',
  sqlite3: 'sqlite3',
  tar: 'tar',
};

/** Debian keeps the programs of a PostgreSQL server out of the way. */
const postgresDirectory = '/usr/lib/postgresql';

/** The search path of the tests. */
export function appsPath() {
  const versions = existsSync(postgresDirectory) ? readdirSync(postgresDirectory) : [];
  const newest = versions.sort((a, b) => Number(b) - Number(a)).map((name) => join(postgresDirectory, name, 'bin'));
  return [toolDirectory, ...newest, process.env.PATH ?? '', '/usr/sbin', '/sbin'].join(delimiter);
}

async function ensure(program, name, at) {
  if (find(program, appsPath()) === undefined) {
    await installPackage(name, program, at);
  }
  if (find(program, appsPath()) === undefined) {
    throw new Hindrance(`${program} is missing, and the package ${name} has not brought it`);
  }
}

/** Installs what can be installed, and fails with the name of what is missing. */
export async function ensureApps(at) {
  for (const [program, name] of Object.entries(packages)) {
    await ensure(program, name, at);
  }
  await cargoTool('fsx', '0.3.2', at);
}

/** Programs that read what the command says of itself: man pages, and scripts for shells. */
const readers = { man: 'man-db', mandoc: 'mandoc', zsh: 'zsh', fish: 'fish' };

/** Installs the readers, or fails with the name of what is missing. */
export async function ensureReaders(at) {
  for (const [program, name] of Object.entries(readers)) {
    await ensure(program, name, at);
  }
}

/** pjdfstest, the test suite for POSIX file systems. Its build needs the library of access control lists. */
export async function ensurePjdfstest(at) {
  await ensure('mkfs.ext4', 'e2fsprogs', at);
  if (!existsSync('/usr/include/sys/acl.h')) {
    await installPackage('libacl1-dev', 'The library of access control lists', at);
  }
  await cargoTool('pjdfstest', '0.2.2', at);
}
