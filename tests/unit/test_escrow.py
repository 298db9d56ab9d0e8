"""The escrow's script and its ways out, under Bitcoin Core's rules."""

from dataclasses import replace
from hashlib import sha256

import pytest
from embit.script import Script, Witness
from embit.transaction import Transaction

from coordinator.contract.errors import (
    InvalidParameters,
    InvalidPreimage,
    InvalidScalar,
    InvalidSignature,
    InvalidTransaction,
    SigningError,
)
from coordinator.contract.escrow import (
    ESCROW_CLAWBACK_BLOCKS,
    LEAST_RELEASE_BLOCKS,
    MOST_RELEASE_BLOCKS,
    Escrow,
    clawback_transaction,
    complete_release,
    covered_blocks,
    release_sighash,
    release_transaction,
    sign_release,
    verify_release_signature,
    verify_signature,
)
from coordinator.contract.network import Network
from coordinator.contract.secp import N, public_key
from coordinator.contract.sizes import dust_limit_sats, virtual_size
from coordinator.contract.utxo import OutPoint, Output
from coordinator.domain.wallet import script_from_address
from support.onchain import escrow, first_invalid_input, parse_transaction, preimage, secret, weight_of

VALUE_SATS = 50_000
OUTPOINT = OutPoint("ab" * 32, 3)
DESTINATION = b"\x51\x20" + b"\x07" * 32
ALICE = escrow("alice")
COORDINATOR_SECRET, ALICE_SECRET = secret("coordinator alice"), secret("alice")
PREVOUTS = [Output(ALICE.script_pubkey, VALUE_SATS)]


# Not the least, which would hide a constant.
DELAY_BLOCKS = 1_405


def release(fee_rate: float = 3, blocks: int = DELAY_BLOCKS) -> bytes:
    return release_transaction(OUTPOINT, VALUE_SATS, ALICE, DESTINATION, fee_rate, blocks)


def signed_release() -> bytes:
    unsigned = release()
    return complete_release(
        unsigned,
        VALUE_SATS,
        ALICE,
        DELAY_BLOCKS,
        sign_release(COORDINATOR_SECRET, unsigned, VALUE_SATS, ALICE, DELAY_BLOCKS),
        sign_release(ALICE_SECRET, unsigned, VALUE_SATS, ALICE, DELAY_BLOCKS),
    )


def clawback(**changes: object) -> bytes:
    arguments: dict[str, object] = {
        "escrow_outpoint": OUTPOINT,
        "value_sats": VALUE_SATS,
        "escrow": ALICE,
        "destination_script": DESTINATION,
        "fee_rate_sat_vb": 3,
        "player_secret": ALICE_SECRET,
        "ticket_preimage": preimage("alice"),
    }
    return clawback_transaction(**(arguments | changes))  # type: ignore[arg-type]


def sighash_of(transaction: Transaction) -> bytes:
    """BIP143 by embit."""
    transaction.clear_cache()
    return bytes(transaction.sighash_segwit(0, Script(ALICE.witness_script), VALUE_SATS))


def with_sequence_and_signature(sequence: int, witness: list[bytes] | None = None) -> bytes:
    """A clawback made by hand, which the library would not make."""
    transaction = parse_transaction(clawback())
    given = list(transaction.vin[0].witness.items)
    transaction.vin[0].sequence = sequence
    transaction.vin[0].witness = Witness([])
    signature = ALICE.sign(ALICE_SECRET, sighash_of(transaction))
    transaction.vin[0].witness = Witness(witness or [given[0], signature, *given[2:]])
    return bytes(transaction.serialize())


def test_script_is_what_the_miniscript_compiles_to() -> None:
    coordinator, player = ALICE.coordinator_pubkey, ALICE.player_pubkey
    by_hand = (
        # multi(2, coordinator, player)
        b"\x52\x21" + coordinator + b"\x21" + player + b"\x52\xae"
        # or_d: OP_IFDUP OP_NOTIF
        + b"\x73\x64"
        # v:pk(player)
        + b"\x21" + player + b"\xad"
        # v:sha256(hash): OP_SIZE 32 OP_EQUALVERIFY OP_SHA256 hash OP_EQUALVERIFY
        + b"\x82\x01\x20\x88\xa8\x20" + ALICE.ticket_hash + b"\x88"
        # older(144) OP_ENDIF
        + b"\x02\x90\x00\xb2\x68"
    )  # fmt: skip
    assert ALICE.witness_script == by_hand
    assert ALICE.script_pubkey == b"\x00\x20" + sha256(by_hand).digest()
    assert (
        ALICE.descriptor.partition("#")[0] == f"wsh(or_d(multi(2,{coordinator.hex()},{player.hex()}),"
        f"and_v(v:pk({player.hex()}),and_v(v:sha256({ALICE.ticket_hash.hex()}),older(144)))))"
    )


@pytest.mark.parametrize(
    ("network", "prefix"),
    [
        (Network.MAINNET, "bc1q"),
        (Network.TESTNET, "tb1q"),
        (Network.SIGNET, "tb1q"),
        (Network.REGTEST, "bcrt1q"),
    ],
)
def test_address_on_each_network(network: Network, prefix: str) -> None:
    address = ALICE.address(network)
    assert address.startswith(prefix)
    assert script_from_address(address, network) == ALICE.script_pubkey


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("coordinator_pubkey", b"\x02" + bytes(32)),
        ("coordinator_pubkey", ALICE.coordinator_pubkey[1:]),
        ("player_pubkey", b"\x05" + ALICE.player_pubkey[1:]),
        ("player_pubkey", ALICE.coordinator_pubkey),
        ("ticket_hash", bytes(31)),
    ],
)
def test_refuses_malformed_parts(field: str, value: bytes) -> None:
    with pytest.raises(InvalidParameters) as error:
        replace(ALICE, **{field: value})
    assert error.value.field == field


class TestRelease:
    def test_is_valid_with_both_signatures(self) -> None:
        assert first_invalid_input(signed_release(), PREVOUTS) is None

    def test_is_deterministic(self) -> None:
        assert release() == release()
        assert signed_release() == signed_release()

    def test_pays_the_fee_rate_within_the_slack_of_signature_lengths(self) -> None:
        signed = signed_release()
        fee = VALUE_SATS - parse_transaction(signed).vout[0].value
        vsize = virtual_size(weight_of(signed))
        assert 3 * vsize <= fee <= 3 * (vsize + 1)

    @pytest.mark.parametrize("blocks", [288, 289, 455, DELAY_BLOCKS, 0xFFFF])
    def test_waits_for_the_blocks_agreed(self, blocks: int) -> None:
        transaction = parse_transaction(release(blocks=blocks))
        assert transaction.version == 2
        assert transaction.vin[0].sequence == blocks
        sign_release(ALICE_SECRET, release(blocks=blocks), VALUE_SATS, ALICE, blocks)
        assert covered_blocks(blocks) == blocks - 144

    def test_waits_for_twice_the_clawback_at_least(self) -> None:
        assert LEAST_RELEASE_BLOCKS == 2 * ESCROW_CLAWBACK_BLOCKS == 288
        assert MOST_RELEASE_BLOCKS == 65_535

    # 65,536 and more would be cut to 16 bits, 1 << 22 counts seconds, 1 << 31 is no lock at all (BIP68).
    @pytest.mark.parametrize(
        "blocks", [-1, 0, 143, 144, 287, 65_536, 65_536 | 288, 288 | 1 << 22, 288 | 1 << 31, 0xFFFFFFFF]
    )
    def test_nobody_can_agree_on_a_lock_that_is_too_short_or_none(self, blocks: int) -> None:
        for refuse in (
            lambda: release(blocks=blocks),
            lambda: covered_blocks(blocks),
            lambda: sign_release(ALICE_SECRET, release(), VALUE_SATS, ALICE, blocks),
        ):
            with pytest.raises(InvalidParameters) as error:
                refuse()
            assert error.value.field == "release_blocks"

    @pytest.mark.parametrize(
        "sequence",
        [0, 143, 144, 287, 288, DELAY_BLOCKS - 1, DELAY_BLOCKS + 1, DELAY_BLOCKS | 1 << 22, 0xFFFFFFFF],
    )
    def test_nobody_signs_another_lock_than_agreed(self, sequence: int) -> None:
        transaction = parse_transaction(release())
        transaction.vin[0].sequence = sequence
        with pytest.raises(InvalidTransaction):
            sign_release(ALICE_SECRET, transaction.serialize(), VALUE_SATS, ALICE, DELAY_BLOCKS)

    def test_nobody_signs_other_shapes(self) -> None:
        for change in ("version", "locktime", "two outputs", "value"):
            transaction = parse_transaction(release())
            if change == "version":  # BIP68 does not hold for version 1
                transaction.version = 1
            elif change == "locktime":
                transaction.locktime = 1
            elif change == "two outputs":
                transaction.vout.append(transaction.vout[0])
            else:
                transaction.vout[0].value = VALUE_SATS
            with pytest.raises(InvalidTransaction):
                release_sighash(transaction.serialize(), VALUE_SATS, ALICE, DELAY_BLOCKS)
        with pytest.raises(InvalidTransaction):
            release_sighash(release() + b"\x00", VALUE_SATS, ALICE, DELAY_BLOCKS)

    def test_signature_commits_to_value_destination_and_outpoint(self) -> None:
        unsigned = release()
        signature = sign_release(ALICE_SECRET, unsigned, VALUE_SATS, ALICE, DELAY_BLOCKS)

        def verifies(
            transaction: bytes, value_sats: int = VALUE_SATS, key: bytes = ALICE.player_pubkey
        ) -> bool:
            return verify_release_signature(key, signature, transaction, value_sats, ALICE, DELAY_BLOCKS)

        assert verifies(unsigned)
        assert not verifies(unsigned, VALUE_SATS + 1)
        assert not verifies(unsigned, key=ALICE.coordinator_pubkey)
        assert not verifies(unsigned, key=public_key(secret("mallory")))
        assert not verifies(release(4))
        elsewhere = release_transaction(
            OutPoint("ab" * 32, 4), VALUE_SATS, ALICE, DESTINATION, 3, DELAY_BLOCKS
        )
        assert not verifies(elsewhere)

    def test_both_signatures_are_needed_in_their_places(self) -> None:
        unsigned = release()
        ours = sign_release(COORDINATOR_SECRET, unsigned, VALUE_SATS, ALICE, DELAY_BLOCKS)
        theirs = sign_release(ALICE_SECRET, unsigned, VALUE_SATS, ALICE, DELAY_BLOCKS)
        for pair in ((theirs, ours), (ours, ours), (ours, b""), (ours, theirs[:-1])):
            with pytest.raises(InvalidSignature):
                complete_release(unsigned, VALUE_SATS, ALICE, DELAY_BLOCKS, *pair)

    def test_a_stranger_cannot_sign(self) -> None:
        with pytest.raises(SigningError):
            sign_release(secret("mallory"), release(), VALUE_SATS, ALICE, DELAY_BLOCKS)
        with pytest.raises(InvalidScalar):
            sign_release(bytes(32), release(), VALUE_SATS, ALICE, DELAY_BLOCKS)

    def test_refuses_to_leave_dust(self) -> None:
        dust = dust_limit_sats(DESTINATION)
        assert dust == 330
        fee = VALUE_SATS - parse_transaction(release()).vout[0].value
        just_enough = release_transaction(OUTPOINT, fee + dust, ALICE, DESTINATION, 3, DELAY_BLOCKS)
        assert parse_transaction(just_enough).vout[0].value == dust
        for value in (fee + dust - 1, fee, fee - 1, 0):
            with pytest.raises(InvalidTransaction):
                release_transaction(OUTPOINT, value, ALICE, DESTINATION, 3, DELAY_BLOCKS)

    @pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf"), 0.0001, 10_001])
    def test_refuses_impossible_fee_rates(self, rate: float) -> None:
        with pytest.raises(InvalidParameters) as error:
            release(rate)
        assert error.value.field == "fee_rate_sat_vb"


def test_sighash_is_embits() -> None:
    assert release_sighash(release(), VALUE_SATS, ALICE, DELAY_BLOCKS) == sighash_of(
        parse_transaction(release())
    )


class TestSignatureEncoding:
    SIGHASH = release_sighash(release(), VALUE_SATS, ALICE, DELAY_BLOCKS)

    def test_high_s_is_refused(self) -> None:
        signature = ALICE.sign(ALICE_SECRET, self.SIGHASH)
        r_length = signature[3]
        r = signature[4 : 4 + r_length]
        s = int.from_bytes(signature[6 + r_length : -1], "big")
        assert s <= N // 2
        high = (N - s).to_bytes(33, "big")
        body = b"\x02" + bytes([r_length]) + r + b"\x02\x21" + high
        assert verify_signature(ALICE.player_pubkey, signature, self.SIGHASH)
        assert not verify_signature(
            ALICE.player_pubkey, b"\x30" + bytes([len(body)]) + body + b"\x01", self.SIGHASH
        )

    @pytest.mark.parametrize("sighash_type", [0, 2, 3, 0x81, 0x83])
    def test_other_sighash_types_are_refused(self, sighash_type: int) -> None:
        signature = ALICE.sign(ALICE_SECRET, self.SIGHASH)[:-1] + bytes([sighash_type])
        assert not verify_signature(ALICE.player_pubkey, signature, self.SIGHASH)

    def test_garbage_is_refused(self) -> None:
        signature = ALICE.sign(ALICE_SECRET, self.SIGHASH)
        padded = signature[:-1] + b"\x00\x01"
        for bad in (b"", b"\x01", bytes(72), signature[:-2] + b"\x01", padded, signature * 2):
            assert not verify_signature(ALICE.player_pubkey, bad, self.SIGHASH)


class TestClawback:
    def test_is_valid_with_key_and_preimage(self) -> None:
        assert first_invalid_input(clawback(), PREVOUTS) is None

    def test_pays_the_fee_rate_within_the_slack_of_signature_lengths(self) -> None:
        signed = clawback()
        fee = VALUE_SATS - parse_transaction(signed).vout[0].value
        vsize = virtual_size(weight_of(signed))
        assert 3 * vsize <= fee <= 3 * (vsize + 1)

    def test_script_needs_144_blocks(self) -> None:
        assert first_invalid_input(with_sequence_and_signature(144), PREVOUTS) is None
        assert first_invalid_input(with_sequence_and_signature(145), PREVOUTS) is None
        for sequence in (0, 143, 144 | 1 << 22, 0xFFFFFFFE):  # 1 << 22: units of 512 seconds (BIP68)
            assert first_invalid_input(with_sequence_and_signature(sequence), PREVOUTS) == 0

    def test_script_needs_the_preimage(self) -> None:
        items = parse_transaction(clawback()).vin[0].witness.items
        for wrong in (preimage("bob"), bytes(32), b"", preimage("alice") + b"\x00"):
            assert first_invalid_input(with_sequence_and_signature(144, [wrong, *items[1:]]), PREVOUTS) == 0
        assert first_invalid_input(with_sequence_and_signature(144, items), PREVOUTS) is None

    def test_script_needs_the_players_key(self) -> None:
        transaction = parse_transaction(clawback())
        items = transaction.vin[0].witness.items
        sighash = sighash_of(transaction)
        coordinators = ALICE.sign(COORDINATOR_SECRET, sighash)
        forged = with_sequence_and_signature(144, [items[0], coordinators, *items[2:]])
        assert first_invalid_input(forged, PREVOUTS) == 0

    def test_coordinator_alone_cannot_use_the_2_of_2(self) -> None:
        transaction = parse_transaction(release())
        signature = ALICE.sign(COORDINATOR_SECRET, sighash_of(transaction))
        for pair in ((signature, signature), (signature, b""), (b"", signature)):
            transaction.vin[0].witness = Witness([b"", *pair, ALICE.witness_script])
            assert first_invalid_input(transaction.serialize(), PREVOUTS) == 0

    def test_refuses_wrong_secrets(self) -> None:
        with pytest.raises(InvalidPreimage):
            clawback(ticket_preimage=preimage("bob"))
        with pytest.raises(InvalidPreimage):
            clawback(ticket_preimage=b"")
        with pytest.raises(SigningError):
            clawback(player_secret=COORDINATOR_SECRET)
        with pytest.raises(InvalidTransaction):
            clawback(value_sats=700)


def test_errors_and_reprs_hold_no_secret() -> None:
    shown = repr(ALICE)
    with pytest.raises(SigningError) as error:
        clawback(player_secret=secret("mallory"))
    for hidden in (ALICE_SECRET, secret("mallory"), preimage("alice")):
        assert hidden.hex() not in shown + str(error.value)
        assert repr(hidden) not in shown + str(error.value)


def test_equal_parts_make_equal_escrows() -> None:
    again = Escrow(ALICE.coordinator_pubkey, ALICE.player_pubkey, ALICE.ticket_hash)
    assert again == ALICE
    assert again.script_pubkey == ALICE.script_pubkey
    assert escrow("bob").script_pubkey != ALICE.script_pubkey
