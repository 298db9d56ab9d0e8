# mypy: disable-error-code="no-untyped-call"
"""Addresses: to the script they stand for, and back (base58check; bech32 of BIP173; bech32m of BIP350)."""

from embit import base58, bech32
from embit.script import Script

from coordinator.contract.network import Network
from coordinator.domain.wallet.errors import WalletError


def script_from_address(address: str, network: Network, *, field: str = "address") -> bytes:
    """The output script of an address of this network.

    P2PKH, P2SH, P2WPKH, P2WSH and P2TR are known; witness versions without rules yet are refused, since
    anyone could spend such an output.

    Args:
        field: Name of the input in the error.

    Raises:
        WalletError: Not an address, one of another network, or of an unknown kind.
    """
    prefixes = network.prefixes
    hrp, separator, _ = address.rpartition("1")
    if separator and hrp.lower() in {n.prefixes["bech32"] for n in Network}:
        return _witness_script(address, hrp.lower(), prefixes["bech32"], network, field)
    try:
        payload = base58.decode_check(address)
    except ValueError:
        raise WalletError(field, "is not a bitcoin address") from None
    if len(payload) == 21 and payload[:1] == prefixes["p2pkh"]:
        return b"\x76\xa9\x14" + payload[1:] + b"\x88\xac"
    if len(payload) == 21 and payload[:1] == prefixes["p2sh"]:
        return b"\xa9\x14" + payload[1:] + b"\x87"
    raise WalletError(field, f"is not an address of {network}")


def _witness_script(address: str, hrp: str, expected_hrp: str, network: Network, field: str) -> bytes:
    if hrp != expected_hrp:
        raise WalletError(field, f"is not an address of {network}")
    version, program = bech32.decode(hrp, address)
    if version is None:
        raise WalletError(field, "is mistyped: its checksum does not fit")
    if version > 1 or (version == 1 and len(program) != 32):
        raise WalletError(field, f"has witness version {version} in a form that has no spending rules yet")
    return bytes([0x50 + version if version else 0, len(program), *program])


def address_from_script(script_pubkey: bytes, network: Network) -> str:
    """The address of an output script.

    Raises:
        WalletError: The script has no address.
    """
    try:
        return str(Script(script_pubkey).address(network.prefixes))
    except ValueError:
        raise WalletError("script_pubkey", "has no address") from None
