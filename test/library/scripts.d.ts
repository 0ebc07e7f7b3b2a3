declare module '*/scripts/api-reference.mjs' {
  export function apiReference(): string;
}

declare module '*/scripts/commonjs.mjs' {
  export function commonjs(errors: object): { readonly code: string; readonly types: string };
}
