"""Examples of requests and answers for the OpenAPI document: one coherent competition, field by field."""

from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from coordinator_gateway import jsoncodec
from coordinator_gateway.openapi_schemas import WELL_KNOWN, limits

_COMPETITION = "01936f2a-7c00-7b3e-9d41-5a0c7e8f1b20"
_TICKET = "01936f2b-1d80-7c55-8e02-3f9b6a4d7c11"
_ENTRY = "01936f2b-9a40-7e21-a6c8-0d5e2f7b9a34"
_SESSION = "01936f2a-7c01-7a10-b1c2-d3e4f5a6b7c8"
_PUBKEY = "7e7e9c42a91bfef19fa929e5fda1b72e0ebc1a4c1141673e2794234d86addf4e"
_POINT = "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5"
_HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_TXID = "b1fea52486ce0c62bb442b530a3f0132b826c74e473d1f2c220bfa78111c5082"
_INVOICE = "lnbcrt500u1p5qexamplepp5n7rgxqvgf37kkd96gv2yz86nqp6vn5ppp5examplepayload"

# By the field's name, or its full name where the same name means different things.
_BY_NAME: dict[str, Any] = {
    "address": "bcrt1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqvg32hk",
    "after_sequence": 41,
    "amount_sats": 50_000,
    "approval_required": False,
    "approved": True,
    "attempts": 1,
    "attestation": "",
    "auth_pubkeys": {_SESSION: _POINT},
    "batches_done": 1,
    "batches_total": 4,
    "competition_id": _COMPETITION,
    "confirmed": True,
    "confirmed_sats": 2_500_000,
    "coordinator_fee_percent": 10,
    "coordinator_pubkey": _PUBKEY,
    "data": {"ticket_id": _TICKET, "amount_sats": 50_000},
    "enclave_id": "enclave-1",
    "encrypted_private_key": "04" + _HASH + _TXID,
    "encrypted_session_secret": "AgKx0v5example",
    "entries": 3,
    "entry_fee_sats": 50_000,
    "entry_id": _ENTRY,
    "ephemeral_private_key": _HASH,
    "ephemeral_private_key_encrypted": "AgKx0v5example",
    "ephemeral_pubkey": _POINT,
    "escrow_coordinator_pubkey": _POINT,
    "escrow_release_signature": "",
    "escrow_value_sats": 50_000,
    "esplora_url": "https://esplora.example.org",
    "fee_rate_sats_per_vb": 2,
    "fee_sats": 308,
    "funding_outpoint": f"{_TXID}:0",
    "funding_signature": "",
    "id": _COMPETITION,
    "coordinator.v1.Entry.id": _ENTRY,
    "coordinator.v1.Ticket.id": _TICKET,
    "idempotency_key": "send-2026-11-24-1",
    "include_signatures": True,
    "is_admin": False,
    "key": "att0",
    "coordinator.v1.Intent.key": f"settle:{_HASH}",
    "key_epoch": 1,
    "keygen_session_ids": [_SESSION],
    "keygen_status": "completed",
    "keymeld_session_id": _SESSION,
    "keymeld_session_ids": [_SESSION],
    "keymeld_url": "https://keymeld.example.org",
    "keymeld_user_id": _TICKET,
    "kind": "ticket.paid",
    "kinds": ["ticket.*", "competition.state_changed"],
    "lightning_pubkey": _POINT,
    "lightning_sats": 5_000_000,
    "locations": ["KORD", "KDEN"],
    "locked_sats": 150_000,
    "market_maker_pubkey": _POINT,
    "metric": "temp_high",
    "min_entries": 3,
    "name": "Chicago and Denver, Tuesday",
    "network": "regtest",
    "nostr_npub": "npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg",
    "nostr_pubkey": _PUBKEY,
    "npub": "npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg",
    "number_of_places_win": 2,
    "number_of_values_per_entry": 4,
    "oracle_pubkey": _PUBKEY,
    "oracle_url": "https://oracle.example.org",
    "owner_pubkey": _PUBKEY,
    "page_size": 50,
    "paid_tickets": 3,
    "parameters_json": "{}",
    "payment_hash": _HASH,
    "payment_request": _INVOICE,
    "payout_hash": _HASH,
    "payout_preimage_encrypted": "AgKx0v5example",
    "points": 30,
    "progress_percent": 0,
    "pubkey": _PUBKEY,
    "rank": 1,
    "reason": "The oracle has no data for KORD that week.",
    "registered": True,
    "relative_locktime_blocks": 144,
    "release_blocks": 455,
    "release_fee_rate_sats_per_vb": 2,
    "sats_per_vb_by_target_blocks": {"1": 12.5, "6": 5, "144": 1},
    "score": 9970,
    "scoring_fields": ["temp_high", "wind_speed"],
    "sequence": 42,
    "session_token": "c2Vzc2lvbi10b2tlbi1leGFtcGxl",
    "signature": _HASH + _TXID,
    "signing_status": "in_progress",
    "state_json": "{}",
    "station": "KORD",
    "status": "done",
    "ticket_hash": _HASH,
    "ticket_id": _TICKET,
    "total_allowed_entries": 3,
    "txid": _TXID,
    "unconfirmed_sats": 0,
    "value_sats": 150_000,
    "version": "0.1.0",
    # Enums.
    "prediction": "over",
    "state": "collecting_entries",
    "coordinator.v1.Ticket.state": "paid",
    "coordinator.v1.Payout.state": "paid",
    "states": ["created", "collecting_entries"],
    # Times, of a competition's life in order.
    "server_time": "2026-11-24T20:00:00Z",
    "created_at": "2026-11-24T18:00:00Z",
    "state_changed_at": "2026-11-24T19:00:00Z",
    "occurred_at": "2026-11-24T19:30:00Z",
    "reserved_until_at": "2026-11-24T19:40:00Z",
    "start_observation_at": "2026-12-01T06:00:00Z",
    "end_observation_at": "2026-12-02T06:00:00Z",
    "signing_at": "2026-12-02T12:00:00Z",
    "expires_at": "2026-11-25T08:00:00Z",
}
_DEFAULTS: dict[int, Any] = {
    FieldDescriptor.CPPTYPE_STRING: "",
    FieldDescriptor.CPPTYPE_BOOL: False,
}


def example_of(message: Descriptor, *, of_request: bool, without: frozenset[str] = frozenset()) -> Any:
    """A message as JSON: an answer has every field, a request what a client would set."""
    return {
        field.name: value
        for field in message.fields
        if field.name not in without
        and not (of_request and _is_output_only(field))
        and ((value := example_of_field(field, of_request=of_request)) is not None or not of_request)
    }


def example_of_field(field: FieldDescriptor, *, of_request: bool) -> Any:
    """A field's value; None where there is none to show."""
    inner: Any = field.message_type
    if inner is not None and not jsoncodec.is_map(field) and inner.full_name not in WELL_KNOWN:
        value = example_of(inner, of_request=of_request)
        return [value] if field.is_repeated else value
    if (known := _BY_NAME.get(field.full_name, _BY_NAME.get(field.name))) is not None:
        return known
    if of_request:
        return None
    if field.is_repeated:
        return {} if jsoncodec.is_map(field) else []
    if inner is not None:
        return None
    if field.enum_type is not None:
        return jsoncodec.enum_text(field.enum_type, field.enum_type.values[-1].number)
    allowed = limits(field)
    if "pattern" in allowed:
        return _SESSION
    return _DEFAULTS.get(field.cpp_type, allowed.get("minimum", 0))


def _is_output_only(field: FieldDescriptor) -> bool:
    behavior = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return field_behavior_pb2.OUTPUT_ONLY in behavior
