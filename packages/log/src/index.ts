/**
 * The log of a daemon: records of TypeScript and of the Rust engine in one stream of JSON lines, with rotation.
 * Never here: names or contents of files in a mount. Records flow in through `Log` and `write`, and out to the file
 * and, in the foreground, to standard error.
 */
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { IoError, PermissionError } from '@verfs/errors';
import { createStream } from 'rotating-file-stream';
import winston from 'winston';
import { Flood } from './flood.ts';

const levels = { error: 0, warn: 1, info: 2, debug: 3, trace: 4 } as const;

/** How grave a record is. */
export type LogLevel = keyof typeof levels;

/** One record. */
export interface LogRecord {
  /** Milliseconds since 1970. */
  readonly time: number;
  readonly level: LogLevel;
  /** The part of VerFS that it comes from. */
  readonly target: string;
  /** One line. */
  readonly message: string;
}

/** Where the records go. */
export interface LogOptions {
  readonly level: LogLevel;
  /** The file; older ones have `.1`, `.2` and so on at the end of their names. */
  readonly file: string;
  /** Size at which the file is replaced by a new one. */
  readonly maxBytes: number;
  /** Files that are kept. */
  readonly maxFiles: number;
  /** Whether the records go to standard error as well, as text. */
  readonly stderr: 'silent' | 'text';
}

/** The records of one part of VerFS. */
export interface Log {
  error(message: string): void;
  warn(message: string): void;
  info(message: string): void;
  debug(message: string): void;
}

/** The one stream. */
export interface LogStream {
  /** A log whose records carry `target`. */
  for(target: string): Log;
  /** Adds a record made elsewhere. */
  write(record: LogRecord): void;
  /** From now on what is graver than `level`, or as grave, is kept. */
  setLevel(level: LogLevel): void;
  /** Resolves once everything is in the file. */
  close(): Promise<void>;
}

const json = winston.format.printf((info) => {
  const { time, level, target, message } = info as unknown as LogRecord;
  return JSON.stringify({ time: new Date(time).toISOString(), level, target, message });
});

const text = winston.format.printf((info) => {
  const { level, target, message } = info as unknown as LogRecord;
  return `${level} ${target}: ${message}`;
});

/** How often what was left out is told, in milliseconds. */
const settleEveryMs = 60_000;

/** Errors of a full disk: what can't be logged then is lost, and nobody is kept from his files by it. */
const full = ['ENOSPC', 'EDQUOT'];

/** Makes the file and its directory. */
function prepare(file: string): void {
  try {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    closeSync(openSync(file, 'a', 0o600));
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? '';
    if (!full.includes(code)) {
      const what = `The log file ${file} cannot be written: ${(cause as Error).message}`;
      const details = {
        path: file,
        cause,
        advice: 'Name another directory: `daemon.log_directory` in the configuration.',
      };
      throw code === 'EACCES' || code === 'EPERM' ? new PermissionError(what, details) : new IoError(what, details);
    }
  }
}

/**
 * Opens the stream, and makes the directory of its file (mode 0700) when it is missing.
 *
 * @throws PermissionError, IoError
 */
export function openLog(options: LogOptions): LogStream {
  prepare(options.file);
  const file = createStream((index) => basename(options.file) + (index ? `.${index}` : ''), {
    path: dirname(options.file),
    size: `${options.maxBytes}B`,
    rotate: options.maxFiles - 1,
    mode: 0o600,
  });
  // A full disk must not end the daemon: what can't be logged is lost.
  file.on('error', () => undefined);
  const transport = new winston.transports.Stream({ stream: file, format: json });
  const logger = winston.createLogger({ levels, level: options.level, transports: [transport] });
  if (options.stderr === 'text') {
    logger.add(new winston.transports.Console({ stderrLevels: Object.keys(levels), format: text }));
  }
  logger.on('error', () => undefined);

  const flood = new Flood();
  const log = (records: readonly LogRecord[]) => {
    for (const record of records) {
      logger.log({ ...record });
    }
  };
  const write = (record: LogRecord) => {
    if (levels[record.level] <= levels[logger.level as LogLevel]) {
      log(flood.take(record));
    }
  };
  // What is left out is told in the end, also when nothing more comes.
  const settle = setInterval(() => log(flood.end()), settleEveryMs).unref();
  return {
    write,
    setLevel: (level) => {
      logger.level = level;
    },
    for: (target) => {
      const at = (level: LogLevel) => (message: string) => write({ time: Date.now(), level, target, message });
      return { error: at('error'), warn: at('warn'), info: at('info'), debug: at('debug') };
    },
    close: () =>
      new Promise((resolve) => {
        clearInterval(settle);
        log(flood.end());
        logger.once('finish', () => file.end(() => resolve()));
        logger.end();
      }),
  };
}
