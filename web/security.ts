/**
 * The page's Content-Security-Policy. Nothing from another origin, nothing inline, and with Trusted Types
 * switched on and no policy allowed, every way of turning a string into markup throws: what a model writes
 * can only ever become text.
 *
 * The edge sends the same as a header, with `frame-ancestors 'none'`, which a meta tag cannot say.
 */
export const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' blob:",
  "connect-src 'self'",
  "font-src 'self'",
  "manifest-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join("; ");
