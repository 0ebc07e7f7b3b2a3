const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const;

/** `bytes` for people: `1536` is `1.5 KiB`. */
export function formatBytes(bytes: number): string {
  const power = bytes < 1 ? 0 : Math.min(Math.floor(Math.log2(bytes) / 10), units.length - 1);
  const amount = bytes / 1024 ** power;
  return `${power === 0 ? amount : amount.toFixed(1)} ${units[power]}`;
}

/** `1 file`, `2 files`. */
export const formatCount = (count: number, one: string, many = `${one}s`): string =>
  `${count} ${count === 1 ? one : many}`;

/** `1 file, 2 directories`. */
export const formatEntries = ({
  files,
  directories,
}: {
  readonly files: number;
  readonly directories: number;
}): string => `${formatCount(files, 'file')}, ${formatCount(directories, 'directory', 'directories')}`;

/** `part` of `whole`, as `2.00x`; nothing stored counts as 1. */
export const ratio = (whole: number, part: number): number => (part === 0 ? 1 : whole / part);

/** A point of time (milliseconds since 1970), in the local time zone, without fractions. */
export function formatTime(time: number): string {
  const local = new Date(time - new Date(time).getTimezoneOffset() * 60_000);
  return local.toISOString().slice(0, 19).replace('T', ' ');
}

/** Rows of names and values, aligned. */
export function formatRows(rows: readonly (readonly [string, string])[]): string[] {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, value]) => `${name.padEnd(width)}  ${value}`);
}

/** A table with headings; columns named in `right` are aligned at the right. */
export function formatTable(
  headings: readonly string[],
  rows: readonly (readonly string[])[],
  right: readonly string[] = [],
): string[] {
  const widths = headings.map((heading, column) =>
    Math.max(heading.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  return [headings, ...rows].map((row) =>
    row
      .map((cell, column) => {
        const width = widths[column] ?? 0;
        return right.includes(headings[column] ?? '') ? cell.padStart(width) : cell.padEnd(width);
      })
      .join('  ')
      .trimEnd(),
  );
}

/** `name` of a file as a terminal may show it: quoted when there are control characters in it. */
export const printable = (name: string): string => (/\p{Cc}/u.test(name) ? JSON.stringify(name) : name);
