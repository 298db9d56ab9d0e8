"""Addresses of every network and kind, and what must not pass for one."""

import pytest

from coordinator.contract.network import Network
from coordinator.domain.wallet import WalletError, address_from_script, script_from_address

P2PKH = b"\x76\xa9\x14" + b"\x11" * 20 + b"\x88\xac"
P2SH = b"\xa9\x14" + b"\x22" * 20 + b"\x87"
P2WPKH = b"\x00\x14" + b"\x33" * 20
P2WSH = b"\x00\x20" + b"\x44" * 32
P2TR = b"\x51\x20" + b"\x55" * 32
KINDS = (P2PKH, P2SH, P2WPKH, P2WSH, P2TR)


@pytest.mark.parametrize("network", list(Network))
@pytest.mark.parametrize("script", KINDS)
def test_there_and_back(network: Network, script: bytes) -> None:
    assert script_from_address(address_from_script(script, network), network) == script


@pytest.mark.parametrize(
    ("address", "network", "script"),
    [
        # BIP173
        (
            "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4",
            Network.MAINNET,
            "0014751e76e8199196d454941c45d1b3a323f1433bd6",
        ),
        (
            "tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sl5k7",
            Network.SIGNET,
            "00201863143c14c5166804bd19203356da136c985678cd4d27a1b8c6329604903262",
        ),
        # BIP350
        (
            "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
            Network.MAINNET,
            "512079be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
        ),
        # Genesis block's coinbase key
        (
            "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
            Network.MAINNET,
            "76a91462e907b15cbf27d5425399ebf6f0fb50ebb88f1888ac",
        ),
    ],
)
def test_published_addresses(address: str, network: Network, script: str) -> None:
    assert script_from_address(address, network).hex() == script


@pytest.mark.parametrize("network", list(Network))
@pytest.mark.parametrize("script", KINDS)
def test_other_networks_are_refused(network: Network, script: bytes) -> None:
    address = address_from_script(script, network)
    alike = {Network.TESTNET, Network.SIGNET}
    if script in (P2PKH, P2SH):
        alike = alike | {Network.REGTEST}
    for other in Network:
        if other == network or {other, network} <= alike:
            continue
        with pytest.raises(WalletError, match=f"not an address of {other}"):
            script_from_address(address, other)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "1",
        "bc1",
        "hello",
        "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb",
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5",
        # mixed case
        "bc1QW508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        # BIP350: version 1 with bech32's checksum, version 0 with bech32m's
        "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqh2y7hd",
        "BC1S0XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ54WELL",
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kemeawh",
        # a WIF private key: base58check of the wrong length
        "KwDiBf89QgGbjEhKnhXJuH7LrciVrZi3qYjgd9M7rFU73sVHnoWn",
        "ünïcode",
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4 ",
    ],
)
def test_malformed_addresses_are_refused(address: str) -> None:
    with pytest.raises(WalletError) as error:
        script_from_address(address, Network.MAINNET, field="destination")
    assert error.value.field == "destination"


@pytest.mark.parametrize(
    "address",
    [
        # BIP350: valid encodings of versions 1 (not 32 bytes), 16 and 2
        "bc1pw508d6qejxtdg4y5r3zarvary0c5xw7kw508d6qejxtdg4y5r3zarvary0c5xw7kt5nd6y",
        "BC1SW50QGDZ25J",
        "bc1zw508d6qejxtdg4y5r3zarvaryvaxxpcs",
    ],
)
def test_outputs_that_anyone_could_spend_are_refused(address: str) -> None:
    with pytest.raises(WalletError, match="no spending rules"):
        script_from_address(address, Network.MAINNET)


def test_scripts_without_address() -> None:
    with pytest.raises(WalletError):
        address_from_script(b"\x6a\x01\x00", Network.MAINNET)
