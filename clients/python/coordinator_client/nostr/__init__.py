"""Nostr for players, the coordinator and its oracle: keys, signed events, HTTP login, private payloads.

Pure: no network, no storage. NIP-01 (events), NIP-19 (npub/nsec), NIP-44 v2 (encryption), NIP-98 (HTTP auth).
"""

from coordinator_client.nostr.errors import InvalidEvent, InvalidKey, Nip44Error, NostrError
from coordinator_client.nostr.events import NostrEvent, event_id, verify_event
from coordinator_client.nostr.keys import NostrKey, check_public_key, hex_to_npub, npub_to_hex
from coordinator_client.nostr.nip98 import Nip98Error, Nip98Event, Nip98Reason

__all__ = [
    "InvalidEvent",
    "InvalidKey",
    "Nip44Error",
    "Nip98Error",
    "Nip98Event",
    "Nip98Reason",
    "NostrError",
    "NostrEvent",
    "NostrKey",
    "check_public_key",
    "event_id",
    "hex_to_npub",
    "npub_to_hex",
    "verify_event",
]
