# mypy: disable-error-code="no-untyped-call"
"""Keys of a BIP86 wallet: a watch-only descriptor, and the signer that holds the seed.

Paths are m/86'/coin'/account'/branch/index, with coin 0 on mainnet and 1 elsewhere; branch 0 gives out
addresses, branch 1 takes change.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from embit.bip32 import HARDENED_INDEX, HDKey
from embit.descriptor.arguments import AllowedDerivation, Key, KeyOrigin
from embit.descriptor.checksum import add_checksum
from embit.descriptor.descriptor import Descriptor as EmbitDescriptor
from embit.psbt import DerivationPath

from coordinator.contract.errors import SigningError
from coordinator.contract.keypath import bip86_script_pubkey, sign_bip86_input
from coordinator.contract.network import Network
from coordinator.contract.tx import SighashCache, Transaction
from coordinator.contract.utxo import Output
from coordinator.domain.wallet.address import address_from_script
from coordinator.domain.wallet.coins import Branch, WalletCoin
from coordinator.domain.wallet.errors import WalletError

_PURPOSE = 86
_BRANCHES = "/<0;1>/*"


class Descriptor:
    """A BIP86 account in public: derives every address, signs nothing.

    `str()` is the output descriptor (BIP386, BIP389) with checksum, as Bitcoin Core imports it:
    `tr([fingerprint/86h/coin'h/account'h]xpub/<0;1>/*)#checksum`.
    """

    def __init__(
        self, account_xpub: HDKey, fingerprint: bytes, path: Sequence[int], network: Network
    ) -> None:
        self._xpub = account_xpub
        self._fingerprint = fingerprint
        self._path = tuple(path)
        self.network = network
        self._branches = {branch: account_xpub.child(branch) for branch in Branch}
        self._internal_key = lru_cache(maxsize=4096)(self._derive_internal_key)

    @classmethod
    def parse(cls, text: str, network: Network) -> Descriptor:
        """From the text that `str()` gives; a checksum is checked where there is one.

        Raises:
            WalletError: Not such a descriptor, a wrong checksum, private keys, or keys of another network.
        """
        body, _, checksum = text.partition("#")
        try:
            if checksum and str(add_checksum(body)) != text:
                raise WalletError("descriptor", "has a wrong checksum")
            parsed = EmbitDescriptor.from_string(body)
            key: Key = parsed.key
            fits = (
                parsed.is_taproot
                and not parsed.taptree
                and key.is_extended
                and key.origin is not None
                and str(key.allowed_derivation) == _BRANCHES
            )
        except WalletError:
            raise
        except Exception:  # embit raises whatever its parsers run into
            raise WalletError("descriptor", "cannot be read") from None
        if not fits:
            raise WalletError("descriptor", "must be tr([origin]xpub/<0;1>/*)")
        if key.is_private:
            raise WalletError("descriptor", "must not hold private keys")
        if key.key.version != network.prefixes["xpub"]:
            raise WalletError("descriptor", f"has keys of another network than {network}")
        return cls(key.key, key.origin.fingerprint, key.origin.derivation, network)

    def __str__(self) -> str:
        key = Key(
            self._xpub,
            KeyOrigin(self._fingerprint, list(self._path)),
            AllowedDerivation.from_string(_BRANCHES[1:]),
            taproot=True,
        )
        return str(add_checksum(f"tr({key.to_string(self.network.prefixes['xpub'])})"))

    def __repr__(self) -> str:
        return f"Descriptor({self})"

    def internal_key(self, branch: Branch, index: int) -> bytes:
        """Untweaked x-only key of an address, 32 bytes.

        Raises:
            WalletError: The index is negative or hardened.
        """
        if not 0 <= index < HARDENED_INDEX:
            raise WalletError("index", f"must be 0 to {HARDENED_INDEX - 1}, is {index}")
        return self._internal_key(branch, index)

    def _derive_internal_key(self, branch: Branch, index: int) -> bytes:
        return bytes(self._branches[branch].child(index).xonly())

    def script_pubkey(self, branch: Branch, index: int) -> bytes:
        """P2TR script of an address."""
        return bip86_script_pubkey(self.internal_key(branch, index))

    def address(self, branch: Branch, index: int) -> str:
        """An address of the account, numbered from 0 in each branch."""
        return address_from_script(self.script_pubkey(branch, index), self.network)

    def derivation(self, branch: Branch, index: int) -> DerivationPath:
        """Fingerprint and full path of an address's key, for a PSBT."""
        return DerivationPath(self._fingerprint, [*self._path, int(branch), index])


class WalletKeys:
    """The private side of an account. Its repr shows no secret; keep the seed encrypted at rest."""

    def __init__(self, account_key: HDKey, fingerprint: bytes, path: Sequence[int], network: Network) -> None:
        self._account = account_key
        self._branches = {branch: account_key.child(branch) for branch in Branch}
        self.descriptor = Descriptor(
            account_key.to_public(network.prefixes["xpub"]), fingerprint, path, network
        )

    @classmethod
    def from_seed(cls, seed: bytes, network: Network, account: int = 0) -> WalletKeys:
        """From a BIP32 seed (a BIP39 mnemonic's is 64 bytes).

        Raises:
            WalletError: The seed is not 16 to 64 bytes, or there is no such account.
        """
        if not 16 <= len(seed) <= 64:
            raise WalletError("seed", f"must have 16 to 64 bytes, has {len(seed)}")
        if not 0 <= account < HARDENED_INDEX:
            raise WalletError("account", f"must be 0 to {HARDENED_INDEX - 1}, is {account}")
        prefixes = network.prefixes
        path = [HARDENED_INDEX + step for step in (_PURPOSE, prefixes["bip32"], account)]
        root = HDKey.from_seed(seed, version=prefixes["xprv"])
        return cls(root.derive(path), root.my_fingerprint, path, network)

    def __repr__(self) -> str:
        return f"WalletKeys({self.descriptor})"

    def secret(self, branch: Branch, index: int) -> bytes:
        """Untweaked secret key of an address, 32 bytes.

        Raises:
            WalletError: The index is negative or hardened.
        """
        if not 0 <= index < HARDENED_INDEX:
            raise WalletError("index", f"must be 0 to {HARDENED_INDEX - 1}, is {index}")
        return bytes(self._branches[branch].child(index).secret)

    def sign_taproot_inputs(
        self,
        unsigned_transaction: bytes,
        coins: Sequence[WalletCoin],
        prevouts: Sequence[Output] | None = None,
        aux: bytes | None = b"",
    ) -> bytes:
        """Sign the inputs that spend these coins, by key path with SIGHASH_DEFAULT (BIP341).

        Args:
            unsigned_transaction: Inputs that spend something else are left as they are.
            coins: Coins of this wallet, in any order.
            prevouts: The outputs that all inputs spend, in input order; not needed where every input spends
                one of the coins.
            aux: BIP340 auxiliary randomness; the default draws it from the system.

        Returns:
            The transaction with its witnesses.

        Raises:
            InvalidTransaction: Not a transaction.
            WalletError: A coin is not spent by the transaction, a coin is not of this wallet, or prevouts are
                missing.
        """
        transaction = Transaction.parse(unsigned_transaction)
        by_outpoint = {coin.outpoint: coin for coin in coins}
        spent = [txin.outpoint for txin in transaction.inputs]
        if missing := by_outpoint.keys() - set(spent):
            raise WalletError("coins", f"the transaction does not spend {min(missing)}")
        if prevouts is None:
            if unknown := set(spent) - by_outpoint.keys():
                raise WalletError("prevouts", f"the output {min(unknown)} is not known")
            prevouts = [by_outpoint[outpoint].output for outpoint in spent]
        if len(prevouts) != len(spent):
            raise WalletError("prevouts", f"{len(prevouts)} outputs for {len(spent)} inputs")
        sighashes = SighashCache(transaction, prevouts)
        signed = transaction
        for index, outpoint in enumerate(spent):
            if (coin := by_outpoint.get(outpoint)) is None:
                continue
            secret = self.secret(Branch(coin.branch), coin.index)
            if prevouts[index] != coin.output:
                raise WalletError("prevouts", f"differs from the coin {outpoint}")
            try:
                signed = signed.with_witness(index, [sign_bip86_input(sighashes, index, secret, aux)])
            except SigningError:
                raise WalletError("coins", f"{outpoint} is not of this wallet") from None
        return signed.serialize()
