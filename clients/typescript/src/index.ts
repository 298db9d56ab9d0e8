export type { Authorize, CallOptions, ClientOptions, RequestFacts } from "./call.ts";
export { CoordinatorClient } from "./client.ts";
export { ApiError, NetworkError } from "./errors.ts";
export type * from "./generated.ts";
export {
  bearerAuthorization,
  nostrAuthorization,
  type NostrEvent,
  type NostrEventTemplate,
  type NostrSigner,
} from "./nostr.ts";
export { SseParser, type SseMessage } from "./sse.ts";
export {
  EventStream,
  type ConnectionState,
  type ConnectionStatus,
  type StreamItem,
  type StreamTiming,
  type WatchOptions,
} from "./stream.ts";
