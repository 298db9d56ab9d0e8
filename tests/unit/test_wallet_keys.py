"""Addresses against the published vectors of BIP86 and BIP341; signatures against Bitcoin Core's rules."""

from dataclasses import replace

import pytest
from embit.bip39 import mnemonic_to_seed

from coordinator.contract.errors import InvalidParameters, InvalidTransaction
from coordinator.contract.keypath import bip86_script_pubkey, sign_bip86_input
from coordinator.contract.network import Network
from coordinator.contract.schnorr import sign
from coordinator.contract.tx import Input, SighashCache, Transaction
from coordinator.contract.utxo import Coin, OutPoint, Output
from coordinator.domain.wallet import (
    Branch,
    Descriptor,
    WalletError,
    WalletKeys,
    address_from_script,
)
from support.onchain import SEED, coin, first_invalid_input, wallet
from support.vectors import load

# The mnemonic of BIP86's test vectors.
ABANDON = mnemonic_to_seed(" ".join(["abandon"] * 11 + ["about"]))
WALLET = wallet()


@pytest.mark.parametrize(
    ("branch", "index", "internal_key", "script", "address"),
    [
        (
            Branch.RECEIVE,
            0,
            "cc8a4bc64d897bddc5fbc2f670f7a8ba0b386779106cf1223c6fc5d7cd6fc115",
            "5120a60869f0dbcf1dc659c9cecbaf8050135ea9e8cdc487053f1dc6880949dc684c",
            "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr",
        ),
        (
            Branch.RECEIVE,
            1,
            "83dfe85a3151d2517290da461fe2815591ef69f2b18a2ce63f01697a8b313145",
            "5120a82f29944d65b86ae6b5e5cc75e294ead6c59391a1edc5e016e3498c67fc7bbb",
            "bc1p4qhjn9zdvkux4e44uhx8tc55attvtyu358kutcqkudyccelu0was9fqzwh",
        ),
        (
            Branch.CHANGE,
            0,
            "399f1b2f4393f29a18c937859c5dd8a77350103157eb880f02e8c08214277cef",
            "5120882d74e5d0572d5a816cef0041a96b6c1de832f6f9676d9605c44d5e9a97d3dc",
            "bc1p3qkhfews2uk44qtvauqyr2ttdsw7svhkl9nkm9s9c3x4ax5h60wqwruhk7",
        ),
    ],
)
def test_bip86_vectors(branch: Branch, index: int, internal_key: str, script: str, address: str) -> None:
    descriptor = WalletKeys.from_seed(ABANDON, Network.MAINNET).descriptor
    assert descriptor.internal_key(branch, index).hex() == internal_key
    assert descriptor.script_pubkey(branch, index).hex() == script
    assert descriptor.address(branch, index) == address


def test_bip86_account_key() -> None:
    text = str(WalletKeys.from_seed(ABANDON, Network.MAINNET).descriptor)
    assert text.partition("#")[0] == (
        "tr([73c5da0a/86h/0h/0h]xpub6BgBgsespWvERF3LHQu6CnqdvfEvtMcQjYrcRzx53QJjSxarj2afYWcLteoGVky7D3UKDP9QyrLprQ3"
        "VCECoY49yfdDEHGCtMMj92pReUsQ/<0;1>/*)"
    )


def test_bip341_output_without_scripts() -> None:
    checked = 0
    for vector in load("bip341_wallet.json")["scriptPubKey"]:
        if vector["given"]["scriptTree"] is None:
            script = bip86_script_pubkey(bytes.fromhex(vector["given"]["internalPubkey"]))
            assert script.hex() == vector["expected"]["scriptPubKey"]
            assert address_from_script(script, Network.MAINNET) == vector["expected"]["bip350Address"]
            checked += 1
    assert checked


def test_bip341_key_path_signature() -> None:
    vector = load("bip341_wallet.json")["keyPathSpending"][0]
    spent = vector["given"]["utxosSpent"]
    sighashes = SighashCache(
        Transaction.parse(bytes.fromhex(vector["given"]["rawUnsignedTx"])),
        [Output(bytes.fromhex(utxo["scriptPubKey"]), utxo["amountSats"]) for utxo in spent],
    )
    checked = 0
    for spending in vector["inputSpending"]:
        given, index = spending["given"], spending["given"]["txinIndex"]
        if given["merkleRoot"] is None:
            # Tweaks the key as the vector does; the vector's own signature is of another sighash type.
            ours = sign_bip86_input(sighashes, index, bytes.fromhex(given["internalPrivkey"]), None)
            tweaked = bytes.fromhex(spending["intermediary"]["tweakedPrivkey"])
            assert ours == sign(tweaked, sighashes.key_path(index), None)
            checked += 1
    assert checked


@pytest.mark.parametrize("index", range(8))
def test_keys_of_both_parities_are_tweaked_right(index: int) -> None:
    secret, spent = WALLET.secret(Branch.RECEIVE, index), coin(WALLET, index, 1_000)
    transaction = Transaction((Input(spent.outpoint, 0),), (Output(b"\x51", 500),))
    signature = sign_bip86_input(SighashCache(transaction, [spent.output]), 0, secret)
    assert first_invalid_input(transaction.with_witness(0, [signature]).serialize(), [spent.output]) is None


class TestDescriptor:
    @pytest.mark.parametrize("network", list(Network))
    def test_text_makes_the_same_watch_only_wallet(self, network: Network) -> None:
        ours = WalletKeys.from_seed(SEED, network, account=2).descriptor
        watching = Descriptor.parse(str(ours), network)
        for branch in Branch:
            for index in (0, 1, 1_000):
                assert watching.address(branch, index) == ours.address(branch, index)
        assert str(watching) == str(ours)
        unchecked = Descriptor.parse(str(ours).partition("#")[0], network)
        assert unchecked.address(Branch.CHANGE, 7) == ours.address(Branch.CHANGE, 7)

    def test_coin_type_and_account_are_in_the_path(self) -> None:
        assert "/86h/1h/2h]tpub" in str(WalletKeys.from_seed(SEED, Network.SIGNET, account=2).descriptor)
        assert "/86h/0h/0h]xpub" in str(WalletKeys.from_seed(SEED, Network.MAINNET).descriptor)

    def test_addresses_are_of_the_network(self) -> None:
        prefixes = {
            Network.MAINNET: "bc1p",
            Network.TESTNET: "tb1p",
            Network.SIGNET: "tb1p",
            Network.REGTEST: "bcrt1p",
        }
        for network, prefix in prefixes.items():
            address = WalletKeys.from_seed(SEED, network).descriptor.address(Branch.RECEIVE, 0)
            assert address.startswith(prefix)

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda text: text[:-1] + ("q" if text[-1] != "q" else "p"),
            lambda text: text.partition("#")[0].replace("<0;1>", "<1;0>"),
            lambda text: text.partition("#")[0].replace("/<0;1>/*", ""),
            lambda text: "wpkh" + text.partition("#")[0][2:],
            lambda text: text.partition("#")[0].replace("[", "").replace("]", ""),
            lambda text: "",
            lambda text: "tr()",
        ],
    )
    def test_spoiled_text_is_refused(self, spoil) -> None:  # type: ignore[no-untyped-def]
        with pytest.raises(WalletError) as error:
            Descriptor.parse(spoil(str(WALLET.descriptor)), Network.REGTEST)
        assert error.value.field == "descriptor"

    def test_private_and_foreign_keys_are_refused(self) -> None:
        private = str(WALLET.descriptor).partition("#")[0]
        start, end = private.index("tpub"), private.index("/<0;1>")
        private = private[:start] + WALLET._account.to_base58() + private[end:]
        with pytest.raises(WalletError, match="private"):
            Descriptor.parse(private, Network.REGTEST)
        with pytest.raises(WalletError, match="network"):
            Descriptor.parse(str(WALLET.descriptor), Network.MAINNET)

    @pytest.mark.parametrize("index", [-1, 1 << 31])
    def test_indexes_out_of_range(self, index: int) -> None:
        for call in (WALLET.descriptor.address, WALLET.secret):
            with pytest.raises(WalletError):
                call(Branch.RECEIVE, index)

    @pytest.mark.parametrize(
        ("seed", "account"), [(bytes(15), 0), (bytes(65), 0), (SEED, -1), (SEED, 1 << 31)]
    )
    def test_seeds_and_accounts_out_of_range(self, seed: bytes, account: int) -> None:
        with pytest.raises(WalletError):
            WalletKeys.from_seed(seed, Network.REGTEST, account)


class TestSigning:
    COINS = (coin(WALLET, 0, 10_000), coin(WALLET, 5, 20_000), coin(WALLET, 1, 30_000, branch=Branch.CHANGE))

    def transaction(self, *extra: Coin) -> bytes:
        inputs = tuple(Input(c.outpoint, 0xFFFFFFFD) for c in (*self.COINS, *extra))
        return Transaction(inputs, (Output(b"\x51\x20" + b"\x05" * 32, 9_000),)).serialize()

    def test_every_input_is_valid(self) -> None:
        signed = WALLET.sign_taproot_inputs(self.transaction(), list(reversed(self.COINS)))
        assert first_invalid_input(signed, [c.output for c in self.COINS]) is None

    def test_signatures_commit_to_every_amount(self) -> None:
        signed = WALLET.sign_taproot_inputs(self.transaction(), self.COINS)
        prevouts = [c.output for c in self.COINS]
        prevouts[2] = replace(prevouts[2], value_sats=prevouts[2].value_sats + 1)
        assert first_invalid_input(signed, prevouts) == 0

    def test_inputs_of_others_are_left_alone(self) -> None:
        other = Coin(OutPoint("ee" * 32, 0), 7_000, b"\x51")
        unsigned = self.transaction(other)
        with pytest.raises(WalletError) as error:
            WALLET.sign_taproot_inputs(unsigned, self.COINS)
        assert error.value.field == "prevouts"
        prevouts = [*(c.output for c in self.COINS), other.output]
        signed = WALLET.sign_taproot_inputs(unsigned, self.COINS, prevouts)
        assert [len(txin.witness) for txin in Transaction.parse(signed).inputs] == [1, 1, 1, 0]
        assert first_invalid_input(signed, prevouts) is None
        with pytest.raises(WalletError):
            WALLET.sign_taproot_inputs(unsigned, self.COINS, prevouts[:-1])
        with pytest.raises(WalletError):
            WALLET.sign_taproot_inputs(unsigned, self.COINS, [prevouts[1], prevouts[0], *prevouts[2:]])

    def test_coins_of_other_wallets_and_transactions_are_refused(self) -> None:
        stranger = WalletKeys.from_seed(SEED[::-1], Network.REGTEST)
        with pytest.raises(WalletError) as error:
            stranger.sign_taproot_inputs(self.transaction(), self.COINS)
        assert error.value.field == "coins"
        with pytest.raises(WalletError):
            WALLET.sign_taproot_inputs(self.transaction(), [*self.COINS, coin(WALLET, 9, 1_000)])
        with pytest.raises(InvalidTransaction):
            WALLET.sign_taproot_inputs(b"\x00", self.COINS)

    def test_repr_shows_no_secret(self) -> None:
        shown = repr(WALLET) + str(WALLET) + repr(vars(WALLET).keys())
        assert SEED.hex() not in shown
        assert "prv" not in shown
        assert WALLET.secret(Branch.RECEIVE, 0).hex() not in shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "aa:0",
        "aa" * 32,
        "AA" * 32 + ":0",
        "aa" * 32 + ":-1",
        "aa" * 32 + ":01",
        "aa" * 32 + ":4294967295",
    ],
)
def test_outpoints_that_are_none(text: str) -> None:
    with pytest.raises(InvalidParameters):
        OutPoint.parse(text)


def test_outpoint_text() -> None:
    outpoint = OutPoint("ab" * 32, 7)
    assert OutPoint.parse(str(outpoint)) == outpoint
