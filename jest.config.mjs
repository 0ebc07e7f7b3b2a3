/** Runs the tests of TypeScript from source: packages resolve each other by the condition `dev`. */
const swc = {
  jsc: { target: 'es2022', parser: { syntax: 'typescript' } },
  module: { type: 'es6' },
};

export default {
  roots: ['<rootDir>/packages', '<rootDir>/test'],
  testMatch: ['**/*.test.ts'],
  setupFiles: ['<rootDir>/test/harness/umask.ts'],
  testEnvironment: 'node',
  testEnvironmentOptions: { customExportConditions: ['node', 'dev'] },
  extensionsToTreatAsEsm: ['.ts'],
  transform: { '^.+\\.ts$': ['@swc/jest', swc] },
  cacheDirectory: '<rootDir>/target/jest',
  modulePathIgnorePatterns: ['<rootDir>/target/', '/dist/'],
  maxWorkers: 2,
  testTimeout: 180_000,
};
