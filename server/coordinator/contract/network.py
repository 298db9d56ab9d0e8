"""Bitcoin networks, under the names that Bitcoin Core's documentation gives them."""

from enum import StrEnum
from typing import Any

from embit.networks import NETWORKS


class Network(StrEnum):
    """A bitcoin network. Testnet and signet share address prefixes: an address cannot tell them apart."""

    MAINNET = "mainnet"
    TESTNET = "testnet"
    SIGNET = "signet"
    REGTEST = "regtest"

    @property
    def prefixes(self) -> dict[str, Any]:
        """embit's record of the network: address and extended key prefixes, BIP44 coin type (`bip32`)."""
        return NETWORKS[{Network.MAINNET: "main", Network.TESTNET: "test"}.get(self, self.value)]
