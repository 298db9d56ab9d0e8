"""The service's tweaks of an aggregate key (BIP327 `ApplyTweak`, BIP341 `taproot_tweak_pubkey`)."""

import json
import re

from coordinator.contract.musig2 import KeyAggContext
from coordinator.contract.secp import tagged_hash
from coordinator_client.keymeld.protocol import Fields, ProtocolError


def apply_tweak(context: KeyAggContext, tweak_json: bytes) -> KeyAggContext:
    """The context with the tweak described by JSON: `"None"` or `{"type": "none"}`, and so on.

    Raises:
        ProtocolError: the tweak is unknown or malformed.
        SigningError: the tweak is not a scalar.
    """
    try:
        tweak = json.loads(tweak_json)
    except ValueError:
        raise ProtocolError("the taproot tweak is not JSON") from None
    fields, kind = _kind(tweak)
    if kind == "none":
        return context
    if kind == "unspendable_taproot":
        return context.tweaked(tagged_hash("TapTweak", context.xonly), xonly=True)
    if kind == "taproot_with_merkle_root":
        root = fields.data("merkle_root", 32)
        return context.tweaked(tagged_hash("TapTweak", context.xonly, root), xonly=True)
    if kind in ("plain_tweak", "x_only_tweak"):
        return context.tweaked(fields.data("tweak", 32), xonly=kind == "x_only_tweak")
    raise ProtocolError(f"the taproot tweak {kind!r} is unknown")


def _kind(tweak: object) -> tuple[Fields, str]:
    """Both spellings of an enum: `"None"`, `{"PlainTweak": {…}}`; tagged, `{"type": "plain_tweak", …}`."""
    if isinstance(tweak, str):
        return Fields({}, "taproot tweak"), _snake(tweak)
    if isinstance(tweak, dict) and "type" not in tweak and len(tweak) == 1:
        ((name, content),) = tweak.items()
        return Fields(content, "taproot tweak"), _snake(name)
    fields = Fields(tweak, "taproot tweak")
    return fields, fields.text("type")


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
