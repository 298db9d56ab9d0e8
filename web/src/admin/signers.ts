import { decode } from "nostr-tools/nip19";
import { finalizeEvent } from "nostr-tools/pure";

import type { NostrSigner } from "../../../clients/typescript/src/index.ts";

/** The browser extension that signs (NIP-07), null if there is none. */
export function extension(): NostrSigner | null {
  return (window as { nostr?: NostrSigner }).nostr ?? null;
}

/**
 * Signs with a secret key, nsec (NIP-19) or hex, that stays in this page's memory: it is stored nowhere and gone
 * with the page. Throws a TypeError, without the text, if it is none.
 */
export function keySigner(text: string): NostrSigner {
  const secret = secretKey(text.trim());
  return { signEvent: async (event) => finalizeEvent(event, secret) };
}

function secretKey(text: string): Uint8Array {
  if (/^[0-9a-f]{64}$/i.test(text)) {
    return Uint8Array.from({ length: 32 }, (_, index) => parseInt(text.slice(2 * index, 2 * index + 2), 16));
  }
  try {
    const decoded = decode(text);
    if (decoded.type === "nsec") return decoded.data;
  } catch {
    // Said below, in words that do not repeat the key.
  }
  throw new TypeError("This is no secret key: it is nsec1… or 64 hex digits.");
}
