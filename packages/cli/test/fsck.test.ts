import { expect, test } from '@jest/globals';
import type { FsckReport } from '@verfs/sdk';
import { fsckText } from '../src/commands/fsck.ts';

const report: FsckReport = { verdict: 'found', findings: [], mended: 0, mendable: 0, left: 0, pendingLogFrames: 0 };

test('a repair is recommended where it would mend something, and only there', () => {
  expect(fsckText({ ...report, mendable: 2, left: 1 })[0]).toContain('2 can be mended: `verfs fsck --repair`');
  expect(fsckText({ ...report, left: 3 })[0]).not.toContain('--repair');
  expect(fsckText({ ...report, left: 3 })[0]).toContain('none');
});
