declare module 'serve-handler' {
  import type { IncomingMessage, ServerResponse } from 'node:http';

  /** What of its documentation the test uses. */
  function serve(
    request: IncomingMessage,
    response: ServerResponse,
    config: { readonly public: string; readonly etag?: boolean },
    methods: object,
  ): Promise<void>;
  export = serve;
}
