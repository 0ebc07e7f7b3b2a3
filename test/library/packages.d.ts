/** Packages of others that come without types: what of their documentation the tests use. */

declare module 'express' {
  import type { RequestListener } from 'node:http';

  interface Application extends RequestListener {
    use(handler: RequestListener): Application;
  }
  const express: { (): Application; readonly static: (directory: string) => RequestListener };
  export = express;
}

declare module 'graceful-fs' {
  const gracefulFs: { readonly gracefulify: <T>(fs: T) => T };
  export = gracefulFs;
}

declare module 'proper-lockfile' {
  interface LockOptions {
    readonly fs: object;
    readonly stale?: number;
    readonly update?: number;
    readonly retries?: { readonly retries: number; readonly minTimeout: number; readonly maxTimeout: number };
  }
  const lockfile: {
    lock(file: string, options: LockOptions): Promise<() => Promise<void>>;
    check(file: string, options: LockOptions): Promise<boolean>;
  };
  export = lockfile;
}

declare module 'serve-handler' {
  import type { IncomingMessage, ServerResponse } from 'node:http';

  function serve(
    request: IncomingMessage,
    response: ServerResponse,
    config: { readonly public: string; readonly etag?: boolean },
    methods: object,
  ): Promise<void>;
  export = serve;
}

declare module 'tar-fs' {
  const tarFs: {
    pack(directory: string, options: { readonly fs: object; readonly sort: boolean }): AsyncIterable<Buffer>;
    extract(directory: string, options: { readonly fs: object }): NodeJS.WritableStream;
  };
  export = tarFs;
}
