/** Where metrics are served: on this machine only. */
export type MetricsAddress = { readonly path: string } | { readonly host: string; readonly port: number };

const loopback = /^(127(?:\.\d{1,3}){3}|localhost|\[::1\]):(\d{1,5})$/;

/** `127.0.0.1:9464`, `[::1]:9464`, `localhost:9464` or `unix:/run/verfs/metrics.sock`; nothing for another text. */
export function parseMetricsAddress(text: string): MetricsAddress | undefined {
  if (text.startsWith('unix:/')) {
    return { path: text.slice('unix:'.length) };
  }
  const match = loopback.exec(text);
  const port = Number(match?.[2]);
  if (match?.[1] === undefined || port < 1 || port > 65_535) {
    return undefined;
  }
  return { host: match[1].replace(/^\[|\]$/g, ''), port };
}
