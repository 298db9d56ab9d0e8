// Written by scripts/generate.py from the gateway's OpenAPI document. Do not edit.

import type { Call, CallOptions, Operation } from "./call.ts";

/** Any JSON object (google.protobuf.Struct). */
export type JsonObject = { [name: string]: unknown };

/** A competition and where it stands. */
export interface Competition {
  /** UUIDv7; also the id of its event at the oracle. */
  id: string;
  /** What was agreed. */
  terms: CompetitionTerms | null;
  /** Where it is. */
  state: CompetitionState;
  /** When it was created. */
  created_at: string | null;
  /** When it came into this state. */
  state_changed_at: string | null;
  /** Sequence of the last event that this answer includes. */
  sequence: number;
  /** Tickets that are reserved and not yet paid. */
  reserved_tickets: number;
  /** Tickets whose payment is held, with an entry or not. */
  paid_tickets: number;
  /** Entries taken. */
  entries: number;
  /** True while no tickets are sold and no entries taken by an admin's order. */
  paused: boolean;
  /** keymeld keygen sessions of this competition, UUIDv7, fixed at creation. */
  keygen_session_ids: string[];
  /** The coordinator's key in this contract (market maker), 33 bytes hex. */
  market_maker_pubkey: string;
  /** The oracle's x-only key, 32 bytes hex; empty before the event was created. */
  oracle_pubkey: string;
  /** Transactions so far. */
  transactions: CompetitionTransactions | null;
  /** What the oracle attested to: "att<i>", "exp" for expiry, or empty. */
  outcome: string;
  /** The winners' player indices in order of place (all players after a refund or expiry). */
  winners: number[];
  /** Why it failed or was cancelled, and what happened to the money. */
  failure_reason: string;
  /** Keymeld progress, 0 to 100, in the states that sign. */
  progress_percent: number;
}

/**
 * Where a competition is in its life. The order is the order of the numbers; any state that is not terminal
 * can go to failed, any before funding to cancelled.
 *
 * - `unspecified`: Not set.
 * - `created`: Announced; no entry yet.
 * - `collecting_entries`: At least one entry; tickets are sold until it is full or the observation window
 * starts.
 * - `awaiting_escrow`: Closed with enough entries; players sign their escrow's release, then the escrow
 * transaction is broadcast.
 * - `escrow_confirmed`: The escrow transaction has its confirmations.
 * - `event_created`: The oracle announced the event and the announcement was recomputed and found right.
 * - `entries_submitted`: The oracle has the entries.
 * - `contract_created`: Contract parameters and the funding transaction are fixed.
 * - `awaiting_keygen`: keymeld aggregates the keys.
 * - `awaiting_signing`: keymeld signs every outcome and split.
 * - `funding_ready`: All signatures verified; players sign the funding transaction.
 * - `funding_broadcasted`: The funding transaction was broadcast.
 * - `funding_confirmed`: The funding transaction has its confirmations; hold invoices are being settled.
 * - `funding_settled`: Every hold invoice is settled.
 * - `awaiting_attestation`: Waiting for the oracle to attest, or for the expiry.
 * - `attested`: The oracle attested to an outcome.
 * - `outcome_broadcasted`: The outcome transaction was broadcast; winners can ask for their payout.
 * - `expiry_broadcasted`: The expiry transaction was broadcast: equal shares to all.
 * - `delta_broadcasted`: The split transaction was broadcast: unpaid winners have their prize on chain.
 * - `completed`: Nothing is left to do. Terminal.
 * - `failed`: Could not go on; failure_reason says why and what happened to the money. Terminal.
 * - `cancelled`: Cancelled before funding; everybody refunded. Terminal.
 */
export type CompetitionState =
  | "unspecified"
  | "created"
  | "collecting_entries"
  | "awaiting_escrow"
  | "escrow_confirmed"
  | "event_created"
  | "entries_submitted"
  | "contract_created"
  | "awaiting_keygen"
  | "awaiting_signing"
  | "funding_ready"
  | "funding_broadcasted"
  | "funding_confirmed"
  | "funding_settled"
  | "awaiting_attestation"
  | "attested"
  | "outcome_broadcasted"
  | "expiry_broadcasted"
  | "delta_broadcasted"
  | "completed"
  | "failed"
  | "cancelled";

/** What is agreed before anybody pays. It never changes. */
export interface CompetitionTerms {
  /** What a player reads in lists, 1 to 100 characters. */
  name: string;
  /** What one ticket costs, in sats: 1,000 to 100,000,000. */
  entry_fee_sats: number;
  /** The coordinator's part of each entry fee, 0 to 50 percent. */
  coordinator_fee_percent: number;
  /**
   * What the funding output holds, in sats. 0: entries * (entry fee - coordinator's part). A larger pool than
   * that is topped up by the coordinator.
   */
  total_competition_pool_sats: number;
  /** The most entries, 2 to 100. */
  total_allowed_entries: number;
  /** With how many entries it goes on when the window starts. 0: total_allowed_entries. */
  min_entries: number;
  /** How many places win: 1 to 5, and fewer than min_entries. */
  number_of_places_win: number;
  /** How many predictions an entry has, 1 to locations * scoring_fields. */
  number_of_values_per_entry: number;
  /** Station ids that the predictions are about. */
  locations: string[];
  /**
   * What can be predicted at each: temp_high, temp_low, wind_speed, wind_direction, rain_amt, snow_amt,
   * humidity.
   */
  scoring_fields: string[];
  /** When observations start to count; no entry is taken from then on. */
  start_observation_at: string;
  /** When observations stop to count. */
  end_observation_at: string;
  /** When the oracle attests. */
  signing_at: string;
  /**
   * The contract's delta: blocks between outcome and split, and between split and a winner's own claim. 1 to
   * 32767.
   */
  relative_locktime_blocks: number;
  /** Fee rate of the contract's own transactions, in sat per virtual byte. 0: the coordinator's default. */
  fee_rate_sats_per_vb: number;
  /**
   * Every player must approve what its key signs, after its own comparison with the contract
   * (docs/keymeld.md); a player that does not in time fails the competition before anything is funded. false:
   * as each player chooses.
   */
  require_signing_approval: boolean;
}

/** Ids of a competition's transactions; empty where there is none yet. */
export interface CompetitionTransactions {
  /** Pays every ticket's escrow output. */
  escrow_txid: string;
  /** Spends the escrows into the contract's funding output. */
  funding_txid: string;
  /** Spends the funding output by the attested outcome, or the expiry. */
  outcome_txid: string;
  /** Splits the outcome among the winners. */
  split_txid: string;
  /** Returns what was paid over Lightning to the coordinator. */
  closing_txids: string[];
  /** Return escrows to the coordinator after a failure. */
  release_txids: string[];
}

/** A player in the contract. */
export interface ContractPlayer {
  /** Place of the ticket id in order; the index in every outcome. */
  player_index: number;
  /** UUIDv7. */
  ticket_id: string;
  /** UUIDv7. */
  entry_id: string;
  /** 33 bytes hex. */
  ephemeral_pubkey: string;
  /** 32 bytes hex: SHA256 of the ticket preimage, payment hash of its invoice. */
  ticket_hash: string;
  /** 32 bytes hex: SHA256 of the payout preimage. */
  payout_hash: string;
  /** Key of the coordinator in this escrow, 33 bytes hex. */
  escrow_coordinator_pubkey: string;
  /** Output of the escrow transaction. */
  escrow_vout: number;
  /** Value of the escrow output. */
  escrow_value_sats: number;
}

/** One verified signature of the contract. */
export interface ContractSignature {
  /** "att<i>", "exp" (outcome transactions), "att<i>:p<j>", "exp:p<j>" (splits). */
  key: string;
  /** 65 bytes (adaptor, for att<i>) or 64 bytes. */
  signature: string;
}

/** The ephemeral private key, ECIES-encrypted to one enclave. */
export interface EnclaveCiphertext {
  /** As keymeld names it. */
  enclave_id: string;
  /** Epoch of the enclave's key. */
  key_epoch: number;
  /** Hex. */
  encrypted_private_key: string;
}

/** An entry. */
export interface Entry {
  /** UUIDv7, chosen by the client; empty: the server chooses. */
  id: string;
  /** UUIDv7. */
  competition_id: string;
  /** The paid ticket, UUIDv7. */
  ticket_id: string;
  /** The owner's Nostr key, 32 bytes hex. */
  owner_pubkey: string;
  /**
   * As many as the competition's number_of_values_per_entry; empty for others while entries are collected.
   */
  expected_observations: ExpectedObservation[];
  /** The player's key in escrow and contract, 33 bytes hex. */
  ephemeral_pubkey: string;
  /** SHA256 of the payout preimage, 32 bytes hex. */
  payout_hash: string;
  /** The ephemeral private key encrypted by the player to itself (NIP-44), returned to the owner only. */
  ephemeral_private_key_encrypted: string;
  /** The payout preimage encrypted by the player to itself (NIP-44), returned to the owner only. */
  payout_preimage_encrypted: string;
  /** For keymeld; not returned. */
  keymeld: KeymeldRegistration | null;
  /** When it was taken. */
  created_at: string | null;
  /** Index in the contract once the competition is closed, else -1. */
  player_index: number;
  /** The release signature is stored. */
  escrow_release_signed: boolean;
  /** The funding signature is stored. */
  funding_signed: boolean;
  /**
   * What each prediction has earned so far. GetEntry fills it in, from when the observation window starts.
   */
  scored_predictions: ScoredPrediction[];
}

/** Something that happened. Stored for good. */
export interface CompetitionEvent {
  /** Strictly increasing over all competitions, without gaps. */
  sequence: number;
  /** UUIDv7. */
  competition_id: string;
  /**
   * E.g. competition.state_changed, ticket.paid, entry.submitted, keymeld.signing_progress,
   * transaction.broadcast.
   */
  kind: string;
  /** When. */
  occurred_at: string | null;
  /** The competition's state after it. */
  state: CompetitionState;
  /** What belongs to the kind (see docs/events.md). */
  data: JsonObject | null;
}

/** One prediction. */
export interface ExpectedObservation {
  /** One of the competition's locations. */
  station: string;
  /** One of the competition's scoring fields. */
  metric: string;
  /** Over, par or under. */
  prediction: Prediction;
}

/** An address. */
export interface GetAddressResponse {
  /** Bech32m, P2TR. */
  address: string;
}

/** Balances. */
export interface GetBalanceResponse {
  /** Confirmed outputs that are not locked. */
  confirmed_sats: number;
  /** Outputs still in the mempool. */
  unconfirmed_sats: number;
  /** Outputs that a transaction in preparation uses. */
  locked_sats: number;
  /** The Lightning node's local channel balance. */
  lightning_sats: number;
}

/** The contract in public. */
export interface GetContractResponse {
  /** Contract parameters as dlctix 0.0.7 writes them, JSON; empty before contract_created. */
  parameters_json: string;
  /** Players in index order. */
  players: ContractPlayer[];
  /** The escrow transaction without signatures, hex. */
  escrow_transaction_hex: string;
  /** Where a released escrow goes: scriptPubKey of the coordinator, hex. */
  release_script_pubkey_hex: string;
  /** Fee rate of release transactions, sat per virtual byte. */
  release_fee_rate_sats_per_vb: number;
  /** The funding transaction as PSBT (BIP174), base64; empty before contract_created. */
  funding_psbt: string;
  /** Outpoint of the contract, "txid:vout"; empty before contract_created. */
  funding_outpoint: string;
  /** All signatures, if asked for and complete. */
  signatures: ContractSignature[];
  /** The attestation, 32 bytes hex, once the oracle gave it. */
  attestation: string;
  /**
   * Relative lock of release transactions in blocks (BIP68), 288 or more. A player signs its release only if
   * its own HTLC expires at least 144 blocks before so many are over. 0: a coordinator of before there was a
   * choice; its releases wait for 288.
   */
  release_blocks: number;
}

/** The coordinator's public facts. */
export interface GetCoordinatorResponse {
  /** Nostr public key, 32 bytes hex: the sender of encrypted session secrets. */
  nostr_pubkey: string;
  /** The same as npub. */
  nostr_npub: string;
  /** mainnet, testnet, signet or regtest. */
  network: string;
  /** keymeld's public address: players fetch enclave keys there themselves. */
  keymeld_url: string;
  /** Oracle's address. */
  oracle_url: string;
  /** Esplora address of the chain that is used. */
  esplora_url: string;
  /** The Lightning node that players pay. */
  lightning_pubkey: string;
  /** The server's time. */
  server_time: string | null;
  /** Version of the program. */
  version: string;
  /** Standing warnings for operators and players, e.g. an oracle that publishes its secret nonce. */
  warnings: string[];
}

/** Fee rates. */
export interface GetEstimatedFeesResponse {
  /** Confirmation target in blocks -> sat per virtual byte. */
  sats_per_vb_by_target_blocks: { [key: string]: number };
}

/** Entries by score. */
export interface GetLeaderboardResponse {
  /** Best first. */
  rows: LeaderboardRow[];
  /** True once the oracle's observations are final. */
  final: boolean;
}

/** Progress of both rounds. */
export interface GetStatusResponse {
  /** not_started, collecting_participants, completed or failed. */
  keygen_status: string;
  /** not_started, in_progress, completed or failed. */
  signing_status: string;
  /** One per player, in order of player index. */
  participant_approvals: ParticipantApproval[];
  /** Batches signed. */
  batches_done: number;
  /** Batches in all. */
  batches_total: number;
  /** When the current round started. */
  started_at: string | null;
  /** When it fails if not complete. */
  deadline_at: string | null;
  /** Every player of the competition must approve what its key signs; an entry without that is refused. */
  approval_required: boolean;
}

/** What the runner knows. */
export interface InspectCompetitionResponse {
  /** As shown to everybody. */
  competition: Competition | null;
  /** The stored state, JSON, without secrets. */
  state_json: string;
  /** Last error of a step, empty if the last one went well. */
  last_error: string;
  /** How often the current step failed in a row. */
  failed_attempts: number;
  /** When the runner looks again. */
  next_attempt_at: string | null;
  /** States so far, oldest first. */
  history: StateChange[];
  /** Side effects that move money and their status. */
  intents: Intent[];
}

/** A side effect that moves money: recorded before it is attempted. */
export interface Intent {
  /** Idempotency key, e.g. "settle:<payment hash>". */
  key: string;
  /** pending, done or abandoned. */
  status: string;
  /** When it was recorded. */
  created_at: string | null;
  /** When it was last attempted. */
  attempted_at: string | null;
}

/** What a player needs to take part in the sessions itself. */
export interface JoinResponse {
  /** UUIDv7. */
  entry_id: string;
  /** The player's id in the sessions: its ticket id. */
  keymeld_user_id: string;
  /** First keygen session. */
  keymeld_session_id: string;
  /** NIP-44 v2 payload of the 32-byte session seed as hex. */
  encrypted_session_secret: string;
  /** All keygen sessions, in order. */
  keymeld_session_ids: string[];
  /** The sender's Nostr key, hex. */
  coordinator_pubkey: string;
}

/**
 * The player's ephemeral private key for keymeld, encrypted to the enclaves, and its keys to approve with.
 */
export interface KeymeldRegistration {
  /** keygen session id -> auth public key, 33 bytes hex. */
  auth_pubkeys: { [key: string]: string };
  /** One for every enclave of the service, since the slot's enclave is known only later. */
  ciphertexts: EnclaveCiphertext[];
  /** The player must approve before its key signs. */
  require_signing_approval: boolean;
}

/** One entry's place. */
export interface LeaderboardRow {
  /** 1 is best. */
  rank: number;
  /** UUIDv7. */
  entry_id: string;
  /** UUIDv7. */
  ticket_id: string;
  /** Index in the contract. */
  player_index: number;
  /** Owner's Nostr key, hex. */
  owner_pubkey: string;
  /** Points so far. */
  points: number;
  /** Score with the tie-breaker, as the oracle counts. */
  score: number;
}

/** A page of competitions, newest first. */
export interface ListCompetitionsResponse {
  /** The page. */
  competitions: Competition[];
  /** Empty on the last page. */
  next_page_token: string;
  /** Sequence of the last event that the page includes: start to watch after it. */
  sequence: number;
}

/** A page of entries. */
export interface ListEntriesResponse {
  /** The page. */
  entries: Entry[];
  /** Empty on the last page. */
  next_page_token: string;
}

/** Unspent outputs. */
export interface ListOutputsResponse {
  /** The page. */
  outputs: WalletOutput[];
  /** Empty on the last page. */
  next_page_token: string;
}

/** A page of signing sessions. */
export interface ListSigningSessionsResponse {
  /** In the order of their creation. */
  sessions: SigningSession[];
  /** Empty on the last page, which may grow as long as the competition is being signed. */
  next_page_token: string;
}

/** The session. */
export interface LoginResponse {
  /** The caller. */
  user: User | null;
  /** Bearer token; shown once. */
  session_token: string;
  /** When it ends. */
  expires_at: string | null;
}

/** Done. */
export interface LogoutResponse {}

/** One player's part. */
export interface ParticipantApproval {
  /** keymeld user id = ticket id. */
  keymeld_user_id: string;
  /** UUIDv7. */
  entry_id: string;
  /** Its key is with an enclave. */
  registered: boolean;
  /** It must approve before its key signs. */
  approval_required: boolean;
  /** It approved. */
  approved: boolean;
  /**
   * The current round waits for it, or ended without it: its key is not with an enclave, or its approval of
   * some signing session is missing.
   */
  missing: boolean;
}

/** A winner's prize. */
export interface Payout {
  /** UUIDv7. */
  entry_id: string;
  /** UUIDv7. */
  competition_id: string;
  /** State. */
  state: PayoutState;
  /** What is paid: the value of the winner's split output. */
  amount_sats: number;
  /** The invoice that was given, or that the destination gave. */
  payment_request: string;
  /** Payment hash, hex. */
  payment_hash: string;
  /** Why the last attempt failed. */
  failure_reason: string;
  /** When it was asked for. */
  requested_at: string | null;
  /** When it was paid. */
  paid_at: string | null;
  /** The ephemeral key was handed over. */
  ephemeral_key_received: boolean;
  /** Index in the contract. */
  player_index: number;
  /** How often a payment was attempted. */
  attempts: number;
  /** The Lightning address or LNURL that gave the invoice; empty if an invoice was given. */
  destination: string;
}

/**
 * Where a payout is.
 *
 * - `unspecified`: Not set.
 * - `available`: The entry won; nothing was asked for yet.
 * - `requested`: Recorded, not yet attempted.
 * - `in_flight`: The payment is in flight; it is tracked and never paid twice.
 * - `paid`: Paid.
 * - `failed`: The payment failed for good; another invoice can be given.
 * - `on_chain`: Not asked for in time; the prize is on chain.
 */
export type PayoutState =
  | "unspecified"
  | "available"
  | "requested"
  | "in_flight"
  | "paid"
  | "failed"
  | "on_chain";

/**
 * How an observation compares with its forecast.
 *
 * - `unspecified`: Not set.
 * - `over`: Higher than forecast.
 * - `par`: As forecast, within the metric's tolerance.
 * - `under`: Lower than forecast.
 */
export type Prediction =
  | "unspecified"
  | "over"
  | "par"
  | "under";

/** What went wrong (RFC 9457). */
export interface Problem {
  /** Names the kind of problem. */
  type: string;
  title: string;
  status: number;
  /** What went wrong this time. */
  detail: string;
  /** The request's path. */
  instance: string;
  /** For programs, e.g. COMPETITION_FULL. */
  reason?: string;
  /** Where the reason is defined. */
  domain?: string;
  metadata?: { [key: string]: string };
  /** Every field that is wrong. */
  errors?: ({   /** E.g. terms.locations[2]. */   field: string;   description: string; })[];
  retry_after_seconds?: number;
}

/** A prediction, what it is compared with, and what it has earned so far. */
export interface ScoredPrediction {
  /** Station. */
  station: string;
  /** Metric. */
  metric: string;
  /** What was predicted. */
  prediction: Prediction;
  /** The forecast; not set while unknown. */
  forecast: number | null;
  /** What was observed so far; not set while nothing was. */
  observed: number | null;
  /** Points so far. */
  points: number;
}

/** What was sent. */
export interface SendResponse {
  /** Transaction. */
  txid: string;
  /** Fee. */
  fee_sats: number;
}

/** One signature that is asked for. */
export interface SigningItem {
  /** UUIDv7. */
  batch_item_id: string;
  /** What it is for: an outcome ("att3", "exp") or a win condition ("att3:p1"). */
  key: string;
  /** What is signed, 32 bytes hex. */
  sighash: string;
  /** Locking point of an adaptor signature, 33 bytes hex; empty: a plain signature. */
  adaptor_point: string;
  /** The subset of keys that signs, UUIDv7; empty: the whole group. */
  subset_id: string;
}

/** One batch, as one attempt at it asks to sign it. */
export interface SigningSession {
  /** UUIDv7. */
  signing_session_id: string;
  /** The keygen session whose keys sign, UUIDv7. */
  keygen_session_id: string;
  /** The batch's place among those of its keygen session. */
  batch: number;
  /** 0, then one more for each time that the batch failed. */
  attempt: number;
  /** What it signs. */
  items: SigningItem[];
}

/** Competitions as of a sequence. */
export interface Snapshot {
  /** The last event that is included. */
  sequence: number;
  /** State. */
  competitions: Competition[];
}

/** One transition. */
export interface StateChange {
  /** Event sequence. */
  sequence: number;
  /** State after it. */
  state: CompetitionState;
  /** When. */
  occurred_at: string | null;
}

/** A place in a competition. */
export interface Ticket {
  /** UUIDv7. Also the keymeld user id and the id of the entry at the oracle. */
  id: string;
  /** UUIDv7. */
  competition_id: string;
  /** State. */
  state: TicketState;
  /** 32 bytes hex: SHA256 of the ticket preimage, and payment hash of the invoice. */
  ticket_hash: string;
  /** BOLT11 hold invoice. */
  payment_request: string;
  /** What to pay. */
  amount_sats: number;
  /** Until when it must be paid. */
  reserved_until_at: string | null;
  /** When it was requested. */
  created_at: string | null;
  /** The entry that uses it, or empty. */
  entry_id: string;
  /** keymeld sessions to register for with the entry. */
  keygen_session_ids: string[];
}

/**
 * Where a ticket is in its life.
 *
 * - `unspecified`: Not set.
 * - `reserved`: Waiting for payment until reserved_until_at.
 * - `paid`: The payment is held (not settled); an entry can be submitted.
 * - `entered`: Used by an entry.
 * - `settled`: The competition is funded and the payment settled.
 * - `expired`: Not paid in time; the place is free again.
 * - `cancelled`: The invoice was cancelled and the payment, if any, returned.
 */
export type TicketState =
  | "unspecified"
  | "reserved"
  | "paid"
  | "entered"
  | "settled"
  | "expired"
  | "cancelled";

/** A known key. */
export interface User {
  /** 32 bytes hex. */
  pubkey: string;
  /** The same as npub. */
  npub: string;
  /** May call admin RPCs. */
  is_admin: boolean;
  /** When it was first seen. */
  created_at: string | null;
}

/** An unspent output of the wallet. */
export interface WalletOutput {
  /** Transaction. */
  txid: string;
  /** Output index. */
  vout: number;
  /** Value. */
  value_sats: number;
  /** Address. */
  address: string;
  /** In a block. */
  confirmed: boolean;
  /** What uses it, or empty. */
  locked_by: string;
  /**
   * What it came from: one of the coordinator's own transactions ("funding 0193…": change of that
   * competition's funding; "payment": change of a payment), or "deposit".
   */
  label: string;
}

/** What is agreed before anybody pays. It never changes. As a request has it. */
export interface CompetitionTermsInput {
  /** What a player reads in lists, 1 to 100 characters. */
  name: string;
  /** What one ticket costs, in sats: 1,000 to 100,000,000. */
  entry_fee_sats: number;
  /** The coordinator's part of each entry fee, 0 to 50 percent. */
  coordinator_fee_percent?: number;
  /**
   * What the funding output holds, in sats. 0: entries * (entry fee - coordinator's part). A larger pool than
   * that is topped up by the coordinator.
   */
  total_competition_pool_sats?: number;
  /** The most entries, 2 to 100. */
  total_allowed_entries: number;
  /** With how many entries it goes on when the window starts. 0: total_allowed_entries. */
  min_entries?: number;
  /** How many places win: 1 to 5, and fewer than min_entries. */
  number_of_places_win: number;
  /** How many predictions an entry has, 1 to locations * scoring_fields. */
  number_of_values_per_entry: number;
  /** Station ids that the predictions are about. */
  locations: string[];
  /**
   * What can be predicted at each: temp_high, temp_low, wind_speed, wind_direction, rain_amt, snow_amt,
   * humidity.
   */
  scoring_fields: string[];
  /** When observations start to count; no entry is taken from then on. */
  start_observation_at: string;
  /** When observations stop to count. */
  end_observation_at: string;
  /** When the oracle attests. */
  signing_at: string;
  /**
   * The contract's delta: blocks between outcome and split, and between split and a winner's own claim. 1 to
   * 32767.
   */
  relative_locktime_blocks?: number;
  /** Fee rate of the contract's own transactions, in sat per virtual byte. 0: the coordinator's default. */
  fee_rate_sats_per_vb?: number;
  /**
   * Every player must approve what its key signs, after its own comparison with the contract
   * (docs/keymeld.md); a player that does not in time fails the competition before anything is funded. false:
   * as each player chooses.
   */
  require_signing_approval?: boolean;
}

/** An entry. As a request has it. */
export interface EntryInput {
  /** UUIDv7, chosen by the client; empty: the server chooses. */
  id?: string;
  /** UUIDv7. */
  competition_id?: string;
  /** The paid ticket, UUIDv7. */
  ticket_id: string;
  /**
   * As many as the competition's number_of_values_per_entry; empty for others while entries are collected.
   */
  expected_observations?: ExpectedObservationInput[];
  /** The player's key in escrow and contract, 33 bytes hex. */
  ephemeral_pubkey: string;
  /** SHA256 of the payout preimage, 32 bytes hex. */
  payout_hash: string;
  /** The ephemeral private key encrypted by the player to itself (NIP-44), returned to the owner only. */
  ephemeral_private_key_encrypted?: string;
  /** The payout preimage encrypted by the player to itself (NIP-44), returned to the owner only. */
  payout_preimage_encrypted?: string;
  /** For keymeld; not returned. */
  keymeld?: KeymeldRegistrationInput | null;
}

/** One prediction. As a request has it. */
export interface ExpectedObservationInput {
  /** One of the competition's locations. */
  station: string;
  /** One of the competition's scoring fields. */
  metric: string;
  /** Over, par or under. */
  prediction: Prediction;
}

/**
 * The player's ephemeral private key for keymeld, encrypted to the enclaves, and its keys to approve with. As
 * a request has it.
 */
export interface KeymeldRegistrationInput {
  /** keygen session id -> auth public key, 33 bytes hex. */
  auth_pubkeys?: { [key: string]: string };
  /** One for every enclave of the service, since the slot's enclave is known only later. */
  ciphertexts?: EnclaveCiphertextInput[];
  /** The player must approve before its key signs. */
  require_signing_approval?: boolean;
}

/** A prediction, what it is compared with, and what it has earned so far. As a request has it. */
export interface ScoredPredictionInput {
  /** Station. */
  station?: string;
  /** Metric. */
  metric?: string;
  /** What was predicted. */
  prediction?: Prediction;
  /** The forecast; not set while unknown. */
  forecast?: number | null;
  /** What was observed so far; not set while nothing was. */
  observed?: number | null;
  /** Points so far. */
  points?: number;
}

/** The ephemeral private key, ECIES-encrypted to one enclave. As a request has it. */
export interface EnclaveCiphertextInput {
  /** As keymeld names it. */
  enclave_id?: string;
  /** Epoch of the enclave's key. */
  key_epoch?: number;
  /** Hex. */
  encrypted_private_key?: string;
}

/** Nothing to say. */
export type GetCoordinatorRequest = Record<string, never>;

/** A new competition. */
export interface CreateCompetitionRequest {
  /** UUIDv7; empty: the server chooses. Repeating a request with the same id creates nothing new. */
  id?: string;
  /** What is agreed. */
  terms: CompetitionTermsInput;
}

/** Which one. */
export interface GetCompetitionRequest {
  /** UUIDv7. */
  competition_id: string;
}

/** A page of competitions. */
export interface ListCompetitionsRequest {
  /** 1 to 200; 0: 50. */
  page_size?: number;
  /** From the page before; empty: the first. */
  page_token?: string;
  /** Only those in one of these states; empty: all. */
  states?: CompetitionState[];
}

/** Which contract. */
export interface GetContractRequest {
  /** UUIDv7. */
  competition_id: string;
  /** Also the signatures (65 bytes an outcome, 64 a split; megabytes for large fields). */
  include_signatures?: boolean;
}

/** Which competition. */
export interface GetLeaderboardRequest {
  /** UUIDv7. */
  competition_id: string;
}

/** Which one and why. */
export interface CancelCompetitionRequest {
  /** UUIDv7. */
  competition_id: string;
  /** Shown to players. */
  reason?: string;
}

/** Which one, and on or off. */
export interface PauseCompetitionRequest {
  /** UUIDv7. */
  competition_id: string;
  /** True: stop; false: go on. */
  paused?: boolean;
}

/** Which one. */
export interface RetryCompetitionRequest {
  /** UUIDv7. */
  competition_id: string;
}

/** Which one. */
export interface InspectCompetitionRequest {
  /** UUIDv7. */
  competition_id: string;
}

/**
 * Competitions: what players compete in, from creation to the last transaction. Reading is open to everybody.
 * Creating, cancelling, pausing, retrying and inspecting need an admin's NIP-98 authorization.
 */
export class CompetitionService {
  readonly #call: Call;

  constructor(call: Call) {
    this.#call = call;
  }

  /**
   * Who runs this coordinator and which networks and services it uses. A client needs it before anything
   * else.
   */
  getCoordinator(
    request: GetCoordinatorRequest = {},
    options?: CallOptions,
  ): Promise<GetCoordinatorResponse> {
    return this.#call(operations.CompetitionService_GetCoordinator, request, options);
  }


  /**
   * Creates a competition (admin). INVALID_ARGUMENT names each field that is wrong; ALREADY_EXISTS if the id
   * is taken by a competition with other terms. The same id with the same terms returns the existing one.
   */
  createCompetition(
    request: CreateCompetitionRequest,
    options?: CallOptions,
  ): Promise<Competition> {
    return this.#call(operations.CompetitionService_CreateCompetition, request, options);
  }


  /** One competition. NOT_FOUND if there is none with this id. */
  getCompetition(
    request: GetCompetitionRequest,
    options?: CallOptions,
  ): Promise<Competition> {
    return this.#call(operations.CompetitionService_GetCompetition, request, options);
  }


  /** Competitions, newest first, in pages. */
  listCompetitions(
    request: ListCompetitionsRequest = {},
    options?: CallOptions,
  ): Promise<ListCompetitionsResponse> {
    return this.#call(operations.CompetitionService_ListCompetitions, request, options);
  }


  /**
   * The contract in public: parameters, escrows, the funding transaction, and the signatures once they are
   * complete. Everything a player needs to check what it signs and to finish alone if the coordinator is
   * gone. FAILED_PRECONDITION before the competition has its players.
   */
  getContract(
    request: GetContractRequest,
    options?: CallOptions,
  ): Promise<GetContractResponse> {
    return this.#call(operations.CompetitionService_GetContract, request, options);
  }


  /**
   * Entries in order of their scores so far, from the oracle's observations (before the window: all zero).
   */
  getLeaderboard(
    request: GetLeaderboardRequest,
    options?: CallOptions,
  ): Promise<GetLeaderboardResponse> {
    return this.#call(operations.CompetitionService_GetLeaderboard, request, options);
  }


  /**
   * Cancels a competition that is not funded yet (admin): every hold invoice is cancelled, every escrow
   * released. FAILED_PRECONDITION once funding was broadcast. Repeating it is harmless.
   */
  cancelCompetition(
    request: CancelCompetitionRequest,
    options?: CallOptions,
  ): Promise<Competition> {
    return this.#call(operations.CompetitionService_CancelCompetition, request, options);
  }


  /** Stops or restarts the sale of tickets and the taking of entries (admin). */
  pauseCompetition(
    request: PauseCompetitionRequest,
    options?: CallOptions,
  ): Promise<Competition> {
    return this.#call(operations.CompetitionService_PauseCompetition, request, options);
  }


  /** Takes the next step now instead of at the next attempt's time (admin). */
  retryCompetition(
    request: RetryCompetitionRequest,
    options?: CallOptions,
  ): Promise<Competition> {
    return this.#call(operations.CompetitionService_RetryCompetition, request, options);
  }


  /** State as stored, history, last error and next attempt (admin). */
  inspectCompetition(
    request: InspectCompetitionRequest,
    options?: CallOptions,
  ): Promise<InspectCompetitionResponse> {
    return this.#call(operations.CompetitionService_InspectCompetition, request, options);
  }
}

/** A new entry. */
export interface CreateEntryRequest {
  /** What the client fills in of it. */
  entry: EntryInput;
}

/** Other predictions. */
export interface UpdateEntryRequest {
  /** UUIDv7. */
  entry_id: string;
  /** All of them. */
  expected_observations?: ExpectedObservationInput[];
}

/** Which one. */
export interface GetEntryRequest {
  /** UUIDv7. */
  entry_id: string;
}

/** A page of entries. */
export interface ListEntriesRequest {
  /** Of this competition; empty: the caller's own, of all competitions. */
  competition_id?: string;
  /** 1 to 200; 0: 50. */
  page_size?: number;
  /** From the page before; empty: the first. */
  page_token?: string;
}

/** Signatures by the entry's ephemeral key. */
export interface SubmitSignaturesRequest {
  /** UUIDv7. */
  entry_id: string;
  /** DER with SIGHASH_ALL over the escrow's release, hex; empty: not handed in now. */
  escrow_release_signature?: string;
  /**
   * DER with SIGHASH_ALL over this escrow's input of the funding transaction, hex; empty: not handed in now.
   */
  funding_signature?: string;
}

/** Entries: a player's predictions and keys on a paid ticket. Needs a player's NIP-98 authorization. */
export class EntryService {
  readonly #call: Call;

  constructor(call: Call) {
    this.#call = call;
  }

  /**
   * Submits an entry on the caller's paid ticket. FAILED_PRECONDITION without a held payment, after the start
   * or when the ticket is used; INVALID_ARGUMENT names each field that is wrong. Nothing is stored on an
   * error. The same id with the same content returns the stored entry.
   */
  createEntry(
    request: CreateEntryRequest,
    options?: CallOptions,
  ): Promise<Entry> {
    return this.#call(operations.EntryService_CreateEntry, request, options);
  }


  /** Changes the predictions of the caller's entry until collection closes. */
  updateEntry(
    request: UpdateEntryRequest,
    options?: CallOptions,
  ): Promise<Entry> {
    return this.#call(operations.EntryService_UpdateEntry, request, options);
  }


  /** One entry. Others' predictions are shown once the competition is closed; backups only to the owner. */
  getEntry(
    request: GetEntryRequest,
    options?: CallOptions,
  ): Promise<Entry> {
    return this.#call(operations.EntryService_GetEntry, request, options);
  }


  /** Entries in order of creation, in pages: of a competition, or the caller's own. */
  listEntries(
    request: ListEntriesRequest = {},
    options?: CallOptions,
  ): Promise<ListEntriesResponse> {
    return this.#call(operations.EntryService_ListEntries, request, options);
  }


  /**
   * Hands in the owner's signatures: of the escrow's release (asked for in awaiting_escrow), of the funding
   * transaction (asked for in funding_ready). Each is verified; INVALID_ARGUMENT if it does not.
   */
  submitSignatures(
    request: SubmitSignaturesRequest,
    options?: CallOptions,
  ): Promise<Entry> {
    return this.#call(operations.EntryService_SubmitSignatures, request, options);
  }
}

/** Whose secret. */
export interface JoinRequest {
  /** UUIDv7. */
  competition_id: string;
  /** The caller's entry; empty: the caller's only one. */
  entry_id?: string;
}

/** Which competition. */
export interface GetStatusRequest {
  /** UUIDv7. */
  competition_id: string;
}

/** Which sessions. */
export interface ListSigningSessionsRequest {
  /** UUIDv7. */
  competition_id: string;
  /** Sessions a page, 1 to 50; 0: 20. */
  page_size?: number;
  /** From the page before; empty: the first. */
  page_token?: string;
}

/** The remote MuSig2 service's sessions of a competition. */
export class KeymeldService {
  readonly #call: Call;

  constructor(call: Call) {
    this.#call = call;
  }

  /**
   * Gives the owner of an entry the session secret, encrypted by NIP-44 v2 from the coordinator's Nostr key
   * to the owner's. PERMISSION_DENIED for everybody else.
   */
  join(
    request: JoinRequest,
    options?: CallOptions,
  ): Promise<JoinResponse> {
    return this.#call(operations.KeymeldService_Join, request, options);
  }


  /** How far key generation and signing are. */
  getStatus(
    request: GetStatusRequest,
    options?: CallOptions,
  ): Promise<GetStatusResponse> {
    return this.#call(operations.KeymeldService_GetStatus, request, options);
  }


  /**
   * What the players are asked to approve: the signing sessions with every item, in pages, in the order in
   * which they were created. Only for owners of the competition's entries. A player compares them, and what
   * keymeld itself says of them, with the contract as it rebuilt it (docs/keymeld.md).
   */
  listSigningSessions(
    request: ListSigningSessionsRequest,
    options?: CallOptions,
  ): Promise<ListSigningSessionsResponse> {
    return this.#call(operations.KeymeldService_ListSigningSessions, request, options);
  }
}

/** How to be paid. */
export interface RequestPayoutRequest {
  /** UUIDv7. */
  competition_id: string;
  /** UUIDv7. */
  entry_id: string;
  /**
   * BOLT11 invoice of exactly amount_sats, or a Lightning address (name@domain) or LNURL-pay code (lnurl1...)
   * that takes that amount.
   */
  payment_request: string;
  /** 32 bytes hex; needed if the invoice's payment hash is not the payout hash, so always with an address. */
  payout_preimage?: string;
  /** 32 bytes hex; optional, see HandOverKey. */
  ephemeral_private_key?: string;
}

/** Which one. */
export interface GetPayoutRequest {
  /** UUIDv7. */
  competition_id: string;
  /** UUIDv7. */
  entry_id: string;
}

/** The key. */
export interface HandOverKeyRequest {
  /** UUIDv7. */
  competition_id: string;
  /** UUIDv7. */
  entry_id: string;
  /** 32 bytes hex. */
  ephemeral_private_key: string;
}

/**
 * Payouts: winners sell their prize to the coordinator over Lightning. Needs the entry owner's NIP-98
 * authorization.
 */
export class PayoutService {
  readonly #call: Call;

  constructor(call: Call) {
    this.#call = call;
  }

  /**
   * Asks for a winner's prize over Lightning. The safe form is an invoice whose payment hash is the entry's
   * payout hash: paying it reveals the payout preimage, nothing has to be given in advance. With any other
   * invoice the payout preimage must be given. FAILED_PRECONDITION unless the entry won and the outcome is on
   * chain. Repeating it with the same invoice returns the same payout; a new invoice is accepted only when
   * the attempt before has failed for good. Instead of an invoice a Lightning address (LUD-16) or an
   * LNURL-pay code (LUD-01, LUD-06) can be given: the coordinator asks there for an invoice and checks it.
   * Repeating it returns the same payout, and after a failure asks for a new invoice.
   */
  requestPayout(
    request: RequestPayoutRequest,
    options?: CallOptions,
  ): Promise<Payout> {
    return this.#call(operations.PayoutService_RequestPayout, request, options);
  }


  /** The entry's payout so far. */
  getPayout(
    request: GetPayoutRequest,
    options?: CallOptions,
  ): Promise<Payout> {
    return this.#call(operations.PayoutService_GetPayout, request, options);
  }


  /**
   * A paid winner hands over its ephemeral private key, so that the coordinator can close cooperatively with
   * one small transaction instead of several. FAILED_PRECONDITION before the payout has succeeded.
   */
  handOverKey(
    request: HandOverKeyRequest,
    options?: CallOptions,
  ): Promise<Payout> {
    return this.#call(operations.PayoutService_HandOverKey, request, options);
  }
}

/** Where to. */
export interface RequestTicketRequest {
  /** UUIDv7. */
  competition_id: string;
}

/** Which one. */
export interface GetTicketStatusRequest {
  /** UUIDv7. */
  competition_id: string;
  /** UUIDv7. */
  ticket_id: string;
}

/**
 * Tickets: a reserved place in a competition, paid by a Lightning hold invoice. Needs a player's NIP-98
 * authorization.
 */
export class TicketService {
  readonly #call: Call;

  constructor(call: Call) {
    this.#call = call;
  }

  /**
   * Reserves a place and returns the hold invoice to pay. While the caller has a reserved, unpaid ticket of
   * this competition that one is returned. FAILED_PRECONDITION when closed or paused, RESOURCE_EXHAUSTED when
   * full.
   */
  requestTicket(
    request: RequestTicketRequest,
    options?: CallOptions,
  ): Promise<Ticket> {
    return this.#call(operations.TicketService_RequestTicket, request, options);
  }


  /** State of the caller's ticket. PERMISSION_DENIED for another's. */
  getTicketStatus(
    request: GetTicketStatusRequest,
    options?: CallOptions,
  ): Promise<Ticket> {
    return this.#call(operations.TicketService_GetTicketStatus, request, options);
  }
}

/** Nothing to say. */
export type RegisterRequest = Record<string, never>;

/** Nothing to say. */
export type LoginRequest = Record<string, never>;

/** Nothing to say. */
export type LogoutRequest = Record<string, never>;

/** Users: Nostr keys. Needs the user's NIP-98 authorization. */
export class UserService {
  readonly #call: Call;

  constructor(call: Call) {
    this.#call = call;
  }

  /** Makes the caller's key known to the coordinator. Repeating it is harmless. */
  register(
    request: RegisterRequest = {},
    options?: CallOptions,
  ): Promise<User> {
    return this.#call(operations.UserService_Register, request, options);
  }


  /** Registers if necessary and opens a session: a short-lived bearer token for private streams and reads. */
  login(
    request: LoginRequest = {},
    options?: CallOptions,
  ): Promise<LoginResponse> {
    return this.#call(operations.UserService_Login, request, options);
  }


  /** Ends the session whose token is presented. */
  logout(
    request: LogoutRequest = {},
    options?: CallOptions,
  ): Promise<LogoutResponse> {
    return this.#call(operations.UserService_Logout, request, options);
  }
}

/** Nothing to say. */
export type GetBalanceRequest = Record<string, never>;

/** Nothing to say. */
export type GetAddressRequest = Record<string, never>;

/** Nothing to say. */
export interface ListOutputsRequest {
  /** 1 to 200; 0: 50. */
  page_size?: number;
  /** From the page before; empty: the first. */
  page_token?: string;
}

/** A payment on chain. */
export interface SendRequest {
  /** To. */
  address: string;
  /** How much, at least 330. */
  amount_sats: number;
  /** Fee rate; 0: the estimate for 6 blocks. */
  fee_rate_sats_per_vb?: number;
  /**
   * Chosen by the caller, up to 128 characters; the same key with the same content sends once. Also taken
   * from the Idempotency-Key header.
   */
  idempotency_key?: string;
}

/** Nothing to say. */
export type GetEstimatedFeesRequest = Record<string, never>;

/** The coordinator's on-chain wallet (BIP86) and Lightning balance. Needs an admin's NIP-98 authorization. */
export class WalletService {
  readonly #call: Call;

  constructor(call: Call) {
    this.#call = call;
  }

  /** On-chain and Lightning balances. */
  getBalance(
    request: GetBalanceRequest = {},
    options?: CallOptions,
  ): Promise<GetBalanceResponse> {
    return this.#call(operations.WalletService_GetBalance, request, options);
  }


  /** The next address that never received anything. */
  getAddress(
    request: GetAddressRequest = {},
    options?: CallOptions,
  ): Promise<GetAddressResponse> {
    return this.#call(operations.WalletService_GetAddress, request, options);
  }


  /** Unspent outputs, locked ones included. */
  listOutputs(
    request: ListOutputsRequest = {},
    options?: CallOptions,
  ): Promise<ListOutputsResponse> {
    return this.#call(operations.WalletService_ListOutputs, request, options);
  }


  /** Sends to an address. Recorded before it is broadcast; the same idempotency key sends once. */
  send(
    request: SendRequest,
    options?: CallOptions,
  ): Promise<SendResponse> {
    return this.#call(operations.WalletService_Send, request, options);
  }


  /** Fee rates by confirmation target. */
  getEstimatedFees(
    request: GetEstimatedFeesRequest = {},
    options?: CallOptions,
  ): Promise<GetEstimatedFeesResponse> {
    return this.#call(operations.WalletService_GetEstimatedFees, request, options);
  }
}

/** Every unary method of the API, by service. */
export class Services {
  readonly competition: CompetitionService;
  readonly entry: EntryService;
  readonly keymeld: KeymeldService;
  readonly payout: PayoutService;
  readonly ticket: TicketService;
  readonly user: UserService;
  readonly wallet: WalletService;

  constructor(call: Call) {
    this.competition = new CompetitionService(call);
    this.entry = new EntryService(call);
    this.keymeld = new KeymeldService(call);
    this.payout = new PayoutService(call);
    this.ticket = new TicketService(call);
    this.user = new UserService(call);
    this.wallet = new WalletService(call);
  }
}

/** How each method goes over HTTP. */
export const operations = {
  CompetitionService_GetCoordinator: {
    method: "GET",
    path: "/api/v1/coordinator",
    body: "",
  },
  CompetitionService_CreateCompetition: {
    method: "POST",
    path: "/api/v1/competitions",
    body: "*",
  },
  CompetitionService_GetCompetition: {
    method: "GET",
    path: "/api/v1/competitions/{competition_id}",
    body: "",
  },
  CompetitionService_ListCompetitions: {
    method: "GET",
    path: "/api/v1/competitions",
    body: "",
  },
  CompetitionService_GetContract: {
    method: "GET",
    path: "/api/v1/competitions/{competition_id}/contract",
    body: "",
  },
  CompetitionService_GetLeaderboard: {
    method: "GET",
    path: "/api/v1/competitions/{competition_id}/leaderboard",
    body: "",
  },
  CompetitionService_CancelCompetition: {
    method: "POST",
    path: "/api/v1/competitions/{competition_id}/cancel",
    body: "*",
  },
  CompetitionService_PauseCompetition: {
    method: "POST",
    path: "/api/v1/competitions/{competition_id}/pause",
    body: "*",
  },
  CompetitionService_RetryCompetition: {
    method: "POST",
    path: "/api/v1/competitions/{competition_id}/retry",
    body: "*",
  },
  CompetitionService_InspectCompetition: {
    method: "GET",
    path: "/api/v1/competitions/{competition_id}/inspect",
    body: "",
  },
  EntryService_CreateEntry: {
    method: "POST",
    path: "/api/v1/entries",
    body: "entry",
  },
  EntryService_UpdateEntry: {
    method: "PATCH",
    path: "/api/v1/entries/{entry_id}",
    body: "*",
  },
  EntryService_GetEntry: {
    method: "GET",
    path: "/api/v1/entries/{entry_id}",
    body: "",
  },
  EntryService_ListEntries: {
    method: "GET",
    path: "/api/v1/entries",
    body: "",
  },
  EntryService_SubmitSignatures: {
    method: "POST",
    path: "/api/v1/entries/{entry_id}/signatures",
    body: "*",
  },
  KeymeldService_Join: {
    method: "POST",
    path: "/api/v1/competitions/{competition_id}/keymeld/join",
    body: "*",
  },
  KeymeldService_GetStatus: {
    method: "GET",
    path: "/api/v1/competitions/{competition_id}/keymeld/status",
    body: "",
  },
  KeymeldService_ListSigningSessions: {
    method: "GET",
    path: "/api/v1/competitions/{competition_id}/keymeld/signing_sessions",
    body: "",
  },
  PayoutService_RequestPayout: {
    method: "POST",
    path: "/api/v1/competitions/{competition_id}/entries/{entry_id}/payout",
    body: "*",
  },
  PayoutService_GetPayout: {
    method: "GET",
    path: "/api/v1/competitions/{competition_id}/entries/{entry_id}/payout",
    body: "",
  },
  PayoutService_HandOverKey: {
    method: "POST",
    path: "/api/v1/competitions/{competition_id}/entries/{entry_id}/ephemeral_key",
    body: "*",
  },
  TicketService_RequestTicket: {
    method: "POST",
    path: "/api/v1/competitions/{competition_id}/ticket",
    body: "*",
  },
  TicketService_GetTicketStatus: {
    method: "GET",
    path: "/api/v1/competitions/{competition_id}/tickets/{ticket_id}/status",
    body: "",
  },
  UserService_Register: {
    method: "POST",
    path: "/api/v1/users/register",
    body: "*",
  },
  UserService_Login: {
    method: "POST",
    path: "/api/v1/users/login",
    body: "*",
  },
  UserService_Logout: {
    method: "POST",
    path: "/api/v1/users/logout",
    body: "*",
  },
  WalletService_GetBalance: {
    method: "GET",
    path: "/api/v1/wallet/balance",
    body: "",
  },
  WalletService_GetAddress: {
    method: "GET",
    path: "/api/v1/wallet/address",
    body: "",
  },
  WalletService_ListOutputs: {
    method: "GET",
    path: "/api/v1/wallet/outputs",
    body: "",
  },
  WalletService_Send: {
    method: "POST",
    path: "/api/v1/wallet/send",
    body: "*",
  },
  WalletService_GetEstimatedFees: {
    method: "GET",
    path: "/api/v1/wallet/estimated_fees",
    body: "",
  },
} satisfies Record<string, Operation>;
