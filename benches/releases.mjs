// What ten successive releases of real projects take when they are kept side by side: VerFS beside borg and restic.
//
//   npm run bench:releases                         every project
//   npm run bench:releases -- --only typescript    one of them
//
// Needs root, mkfs.ext4, borg, restic, npm's registry, and about 8 GiB. Each release is unpacked as npm would, without
// its dependencies. VerFS: copied into a mounted volume with default settings, one directory each; borg and restic: one
// archive or snapshot each, with default compression and chunking (borg without encryption, restic with: it has no
// other way). What counts is what the volume's or the repository's directory takes on the disk.

import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { root, run, verfsFilesystem } from './filesystems.mjs';

const projects = {
  typescript: ['5.4.2', '5.4.3', '5.4.4', '5.4.5', '5.5.2', '5.5.3', '5.5.4', '5.6.2', '5.6.3', '5.7.2'],
  next: ['16.3.0', '16.3.1', '16.3.2', '16.3.3', '16.3.4', '16.3.5', '16.3.6', '16.3.7', '16.3.8', '16.4.0'],
};

/** Downloads and unpacks the releases; gives the directory of each. */
function unpack(directory, name, versions) {
  return versions.map((version) => {
    const target = path.join(directory, `${name}-${version}`);
    mkdirSync(target);
    run('npm', ['pack', '--silent', '--pack-destination', target, `${name}@${version}`], { timeout: 300_000 });
    const [tarball] = readdirSync(target);
    run('tar', ['-xzf', path.join(target, tarball), '-C', target]);
    rmSync(path.join(target, tarball));
    return target;
  });
}

/** Bytes that the files in it have, or that they take on the disk. */
function bytes(directory, ...flags) {
  return Number(run('du', ['-s', ...flags, directory]).split('\t')[0]);
}
const apparentBytes = (directory) => bytes(directory, '--apparent-size', '-B1');
const diskBytes = (directory) => bytes(directory, '-B1');

function verfs(directory, releases) {
  const filesystem = verfsFilesystem(directory);
  try {
    for (const release of releases) {
      run('cp', ['-a', release, filesystem.mountpoint]);
      filesystem.call('sync', filesystem.mountpoint);
    }
    for (const release of releases)
      run('diff', ['-r', release, path.join(filesystem.mountpoint, path.basename(release))]);
    // A closed volume keeps nothing allocated ahead but its intent log, which has one size for good.
    filesystem.call('unmount', filesystem.mountpoint);
    return { total: diskBytes(filesystem.volume), log: diskBytes(path.join(filesystem.volume, 'log')) };
  } finally {
    filesystem.stop();
  }
}

function borg(directory, releases) {
  const repository = path.join(directory, 'borg');
  const env = { ...process.env, BORG_BASE_DIR: path.join(directory, 'borg-home') };
  run('borg', ['init', '--encryption=none', repository], { env });
  for (const release of releases) {
    run('borg', ['create', `${repository}::${path.basename(release)}`, '.'], { env, cwd: release, timeout: 600_000 });
  }
  return diskBytes(repository);
}

function restic(directory, releases) {
  const repository = path.join(directory, 'restic');
  const env = { ...process.env, RESTIC_PASSWORD: 'benchmark', RESTIC_CACHE_DIR: path.join(directory, 'restic-cache') };
  const call = (args, cwd) => run('restic', ['--quiet', '--repo', repository, ...args], { env, cwd, timeout: 600_000 });
  call(['init']);
  for (const release of releases) call(['backup', '.'], release);
  return diskBytes(repository);
}

const { values: options } = parseArgs({ options: { only: { type: 'string' }, directory: { type: 'string' } } });
if (process.getuid() !== 0) throw new Error('the benchmark mounts a loop device: run it as root');
for (const program of ['borg', 'restic']) run(program, ['help']);
const names = options.only?.split(',') ?? Object.keys(projects);
console.log('| releases | unpacked | verfs | of it the log | borg | restic | verfs / borg | verfs / restic |');
console.log('|---|---|---|---|---|---|---|---|');
for (const name of names) {
  const directory = mkdtempSync(path.join(options.directory ?? root, 'bench-'));
  try {
    const unpacked = path.join(directory, 'unpacked');
    mkdirSync(unpacked);
    const releases = unpack(unpacked, name, projects[name]);
    const ours = verfs(directory, releases);
    const theirs = [borg, restic].map((keep) => keep(directory, releases));
    const sizes = [apparentBytes(unpacked), ours.total, ours.log, ...theirs];
    const [first, last] = [projects[name][0], projects[name].at(-1)];
    const megabytes = sizes.map((size) => `${(size / 1e6).toFixed(1)} MB`);
    const ratios = theirs.map((size) => (ours.total / size).toFixed(2));
    console.log(`| ${name} ${first} to ${last} | ${[...megabytes, ...ratios].join(' | ')} |`);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
