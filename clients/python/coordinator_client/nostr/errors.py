"""What can be wrong with Nostr input. Messages never carry secret material."""


class NostrError(ValueError):
    """Base of every error this package raises."""


class InvalidKey(NostrError):
    """A key is not 32 bytes of hex, not a well-formed npub/nsec, or not on the curve."""


class InvalidEvent(NostrError):
    """An event lacks a field, has one of the wrong type, or its id or signature does not fit."""


class Nip44Error(NostrError):
    """A NIP-44 payload or plaintext is malformed, or its MAC does not fit."""
