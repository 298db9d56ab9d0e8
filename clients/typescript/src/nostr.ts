import type { Authorize, RequestFacts } from "./call.ts";

/** A Nostr event before it is signed (NIP-01). */
export interface NostrEventTemplate {
  kind: number;
  /** Unix seconds. */
  created_at: number;
  tags: string[][];
  content: string;
}

/** A signed Nostr event (NIP-01). */
export interface NostrEvent extends NostrEventTemplate {
  /** SHA256 of the rest, 32 bytes hex. */
  id: string;
  /** X-only public key, 32 bytes hex. */
  pubkey: string;
  /** BIP 340 signature over the id, 64 bytes hex. */
  sig: string;
}

/** Holds a key and signs with it: a browser extension's `window.nostr` (NIP-07), or anything like it. */
export interface NostrSigner {
  signEvent(event: NostrEventTemplate): Promise<NostrEvent>;
}

const HTTP_AUTH_KIND = 27235;

/**
 * Authorizes every request by an event of the signer's key (NIP-98).
 *
 * An extension may ask its user at each of them. For reads and streams a session will do (`user.login`,
 * `bearerAuthorization`); what changes something has to be signed.
 */
export function nostrAuthorization(signer: NostrSigner): Authorize {
  return async (request) => {
    const event = await signer.signEvent(await httpAuthEvent(request));
    return `Nostr ${base64(JSON.stringify(event))}`;
  };
}

/** Authorizes every request by the token of a session (`user.login`): good for reads and streams. */
export function bearerAuthorization(sessionToken: string): Authorize {
  return () => `Bearer ${sessionToken}`;
}

/** The event that stands for one request (NIP-98), yet to be signed. */
async function httpAuthEvent({ url, method, body }: RequestFacts): Promise<NostrEventTemplate> {
  // The server takes an event once: without the nonce, equal requests of one second would be one event.
  const nonce = hex(crypto.getRandomValues(new Uint8Array(8)));
  const tags = [["u", url], ["method", method], ["nonce", nonce]];
  if (body) tags.push(["payload", await sha256(body)]);
  return { kind: HTTP_AUTH_KIND, created_at: Math.floor(Date.now() / 1000), tags, content: "" };
}

async function sha256(text: string): Promise<string> {
  // Browsers have it on https and localhost only.
  if (!globalThis.crypto?.subtle) throw new TypeError("signing requests needs a secure context (https)");
  return hex(new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text))));
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Of UTF-8; `btoa` alone takes Latin-1 only. */
function base64(text: string): string {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}
