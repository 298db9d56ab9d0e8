"""The escrow transaction and the funding transaction, under Bitcoin Core's rules."""

import random
from dataclasses import replace
from typing import Any

import pytest
from embit.ec import PrivateKey
from embit.psbt import PSBT

from coordinator.contract.errors import (
    InvalidParameters,
    InvalidSignature,
    InvalidTransaction,
    SigningError,
)
from coordinator.contract.funding import (
    EscrowBatch,
    EscrowCoin,
    FundingTransaction,
    TicketEscrow,
    Underfunded,
    escrow_batch_outputs,
    funding_base_weight,
)
from coordinator.contract.sizes import fee_sats, virtual_size
from coordinator.contract.utxo import Coin, OutPoint
from coordinator.domain.wallet import Branch, Need, build_payment, select_coins
from support.onchain import coin, escrow, first_invalid_input, parse_transaction, secret, wallet, weight_of

NAMES = ("dave", "alice", "carol", "bob", "erin")
TICKETS = {name: f"0192f0a4-7c3{index}-7abc-8def-0123456789ab" for index, name in enumerate(NAMES)}
VALUE_SATS = 20_000
FUNDING_SCRIPT = b"\x51\x20" + b"\x0f" * 32
WALLET = wallet()
CHANGE_SCRIPT = WALLET.descriptor.script_pubkey(Branch.CHANGE, 0)


def escrow_coin(name: str, value_sats: int = VALUE_SATS) -> EscrowCoin:
    return EscrowCoin(TICKETS[name], escrow(name), OutPoint("c0" * 32, NAMES.index(name)), value_sats)


def top_up(*values_sats: int) -> list[Coin]:
    return [coin(WALLET, index, value) for index, value in enumerate(values_sats)]


def build(escrows: Any = None, coins: Any = None, **changes: Any) -> FundingTransaction:
    arguments: dict[str, Any] = {
        "funding_script": FUNDING_SCRIPT,
        "funding_value_sats": 100_000,
        "change_script": CHANGE_SCRIPT,
        "fee_rate_sat_vb": 2,
    }
    return FundingTransaction.build(
        [escrow_coin(name) for name in NAMES] if escrows is None else escrows,
        top_up(30_000, 9_000) if coins is None else coins,
        **(arguments | changes),
    )


def name_of(ticket_id: str) -> str:
    return next(name for name, ticket in TICKETS.items() if ticket == ticket_id)


def player_signatures(funding: FundingTransaction) -> list[bytes]:
    return [funding.sign(i, secret(name_of(e.ticket_id))) for i, e in enumerate(funding.escrows)]


def coordinator_secrets(coins: int) -> list[bytes]:
    escrow_secrets = [secret(f"coordinator {name}") for name in NAMES]
    return [*escrow_secrets, *(WALLET.secret(Branch.RECEIVE, index) for index in range(coins))]


def complete(funding: FundingTransaction) -> bytes:
    return funding.complete(player_signatures(funding), coordinator_secrets(len(funding.coins)))


class TestShape:
    def test_is_valid_when_everybody_signed(self) -> None:
        funding = build()
        signed = complete(funding)
        assert first_invalid_input(signed, funding.prevouts) is None
        assert parse_transaction(signed).txid().hex() == funding.txid

    def test_without_coordinator_coins(self) -> None:
        funding = build(coins=[], funding_value_sats=95_000)
        assert first_invalid_input(complete(funding), funding.prevouts) is None

    def test_order_of_arguments_does_not_matter(self) -> None:
        escrows, coins = [escrow_coin(name) for name in NAMES], top_up(30_000, 9_000, 4_000)
        expected = build(escrows, coins)
        for seed in range(5):
            random.Random(seed).shuffle(escrows)
            random.Random(seed).shuffle(coins)
            again = build(escrows, coins)
            assert again == expected
            assert again.unsigned_transaction == expected.unsigned_transaction

    def test_inputs_and_outputs_are_where_they_are_promised(self) -> None:
        funding = build()
        transaction = parse_transaction(funding.unsigned_transaction)
        assert [e.ticket_id for e in funding.escrows] == sorted(TICKETS.values())
        spent = [OutPoint(vin.txid.hex(), vin.vout) for vin in transaction.vin]
        coins = sorted(c.outpoint for c in funding.coins)
        assert spent == [*(e.outpoint for e in funding.escrows), *coins]
        assert {vin.sequence for vin in transaction.vin} == {0xFFFFFFFE}
        assert transaction.locktime == 0
        assert [(out.value, out.script_pubkey.data) for out in transaction.vout] == [
            (100_000, FUNDING_SCRIPT),
            (39_000 - funding.fee_sats, CHANGE_SCRIPT),
        ]
        assert funding.funding_outpoint == OutPoint(funding.txid, 0)
        assert funding.index_of(TICKETS["bob"]) == sorted(TICKETS.values()).index(TICKETS["bob"])

    def test_fee_follows_the_rate_whatever_the_number_of_inputs(self) -> None:
        for coins in range(4):
            funding = build(coins=top_up(*[30_000] * coins), funding_value_sats=90_000, fee_rate_sat_vb=7)
            vsize = virtual_size(weight_of(complete(funding)))
            # At most two signature bytes an escrow (half a vB) are predicted longer than they are.
            assert 7 * vsize <= funding.fee_sats <= 7 * (vsize + 1 + len(NAMES) // 2)

    def test_change_below_dust_goes_to_the_fee(self) -> None:
        with_change = build()
        assert with_change.change_output is not None
        surplus = with_change.change_output.value_sats
        at_dust = build(funding_value_sats=100_000 + surplus - 330)
        assert at_dust.change_output is not None
        assert at_dust.change_output.value_sats == 330
        below = build(funding_value_sats=100_000 + surplus - 329)
        assert below.change_output is None
        assert below.fee_sats == with_change.fee_sats + 329
        assert first_invalid_input(complete(below), below.prevouts) is None

    def test_exact_fee_is_enough_and_one_less_is_not(self) -> None:
        needed = 100_000 + fee_sats(funding_base_weight(len(NAMES)), 2)
        values = [VALUE_SATS] * (len(NAMES) - 1)
        last = needed - sum(values)
        exact = [escrow_coin(n, v) for n, v in zip(NAMES, [*values, last], strict=True)]
        assert build(exact, []).change_output is None
        with pytest.raises(Underfunded) as error:
            build([*exact[:-1], replace(exact[-1], value_sats=last - 1)], [])
        assert error.value.missing_sats == 1

    def test_coin_selection_finds_the_top_up(self) -> None:
        escrows = [escrow_coin(name) for name in NAMES]
        need = Need(
            target_sats=100_000 - sum(e.value_sats for e in escrows),
            base_weight=funding_base_weight(len(escrows)),
            inputs=len(escrows),
            outputs=1,
            change_script=CHANGE_SCRIPT,
            fee_rate_sat_vb=2,
        )
        selection = select_coins([coin(WALLET, i, v) for i, v in enumerate((500, 700, 60_000, 900))], need)
        funding = build(escrows, selection.coins)
        assert funding.fee_sats == selection.fee_sats
        assert (funding.change_output.value_sats if funding.change_output else 0) == selection.change_sats
        # With escrows that cover everything no coin is touched.
        richer = replace(need, target_sats=need.target_sats - 10_000)
        assert select_coins(selection.coins, richer).coins == ()


class TestRefusals:
    def test_fee_above_a_quarter(self) -> None:
        build(fee_rate_sat_vb=30, coins=top_up(60_000))
        with pytest.raises(InvalidTransaction) as error:
            build(fee_rate_sat_vb=40, coins=top_up(60_000))
        assert error.value.field == "fee_rate_sat_vb"

    def test_dust_funding(self) -> None:
        with pytest.raises(InvalidTransaction):
            build(funding_value_sats=329)

    def test_funding_that_is_not_taproot(self) -> None:
        with pytest.raises(InvalidParameters):
            build(funding_script=b"\x00\x20" + bytes(32))

    @pytest.mark.parametrize("value_sats", [-1, 21_000_000 * 100_000_000 + 1])
    def test_impossible_values(self, value_sats: int) -> None:
        with pytest.raises(InvalidParameters):
            build(funding_value_sats=value_sats)

    def test_repeated_tickets_and_outpoints(self) -> None:
        alice = escrow_coin("alice")
        for escrows in (
            [],
            [alice, alice],
            [alice, replace(alice, outpoint=OutPoint("aa" * 32, 0))],
            [alice, replace(alice, ticket_id=TICKETS["bob"])],
        ):
            with pytest.raises(InvalidParameters):
                build(escrows)
        with pytest.raises(InvalidParameters):
            build(coins=top_up(30_000) * 2)
        with pytest.raises(InvalidParameters):
            build(coins=[replace(top_up(30_000)[0], outpoint=alice.outpoint)])

    def test_coins_that_are_not_taproot(self) -> None:
        with pytest.raises(InvalidParameters) as error:
            build(coins=[Coin(OutPoint("aa" * 32, 0), 30_000, b"\x00\x14" + bytes(20))])
        assert error.value.field == "coins[0]"

    @pytest.mark.parametrize("index", [-1, 5, 6])
    def test_indexes_that_are_no_escrow(self, index: int) -> None:
        funding = build()
        for call in (
            lambda: funding.sighash(index),
            lambda: funding.sign(index, secret("alice")),
            lambda: funding.verify_player_signature(index, b""),
        ):
            with pytest.raises(InvalidParameters):
                call()


class TestSignatures:
    def test_a_players_signature_fits_only_its_input(self) -> None:
        funding = build()
        index = funding.index_of(TICKETS["carol"])
        signature = funding.sign(index, secret("carol"))
        assert [funding.verify_player_signature(i, signature) for i in range(5)] == [
            i == index for i in range(5)
        ]

    def test_a_players_signature_fits_only_this_transaction(self) -> None:
        funding = build()
        index = funding.index_of(TICKETS["carol"])
        signature = funding.sign(index, secret("carol"))
        for other in (
            build(funding_value_sats=99_999),
            build(coins=top_up(30_000)),
            build(fee_rate_sat_vb=3),
        ):
            assert not other.verify_player_signature(index, signature)

    def test_the_coordinators_signature_is_not_the_players(self) -> None:
        funding = build()
        index = funding.index_of(TICKETS["carol"])
        assert not funding.verify_player_signature(index, funding.sign(index, secret("coordinator carol")))
        with pytest.raises(SigningError):
            funding.sign(index, secret("bob"))

    def test_a_missing_or_wrong_signature_names_the_ticket(self) -> None:
        funding = build()
        good = player_signatures(funding)
        for bad in (b"", good[0], good[2][:-1] + b"\x83"):
            with pytest.raises(InvalidSignature) as error:
                funding.complete([*good[:2], bad, *good[3:]], coordinator_secrets(2))
            assert error.value.key == funding.escrows[2].ticket_id
        with pytest.raises(InvalidSignature):
            funding.complete(good[:-1], coordinator_secrets(2))

    def test_missing_coordinator_secrets(self) -> None:
        funding = build()
        good = player_signatures(funding)
        with pytest.raises(SigningError) as error:
            funding.complete(good, coordinator_secrets(1))
        assert error.value.field in ("coins[0]", "coins[1]")
        with pytest.raises(SigningError) as error:
            funding.complete(good, coordinator_secrets(2)[1:])
        assert error.value.field is not None
        assert error.value.field.startswith("escrows[")

    def test_completing_changes_nothing(self) -> None:
        funding = build()
        before = funding.unsigned_transaction
        complete(funding)
        assert funding.unsigned_transaction == before

    def test_consensus_refuses_another_value(self) -> None:
        funding = build()
        transaction = parse_transaction(complete(funding))
        transaction.vout[0].value += 1
        assert first_invalid_input(transaction.serialize(), funding.prevouts) == 0

    def test_consensus_refuses_exchanged_signatures(self) -> None:
        funding = build()
        transaction = parse_transaction(complete(funding))
        items = transaction.vin[1].witness.items
        items[1], items[2] = items[2], items[1]
        assert first_invalid_input(transaction.serialize(), funding.prevouts) == 1


class TestPsbt:
    def test_a_psbt_signer_signs_it(self) -> None:
        funding = build()
        for ticket in funding.escrows:
            psbt = PSBT.from_string(funding.psbt().to_string())
            index = funding.index_of(ticket.ticket_id)
            assert psbt.sign_with(PrivateKey(secret(name_of(ticket.ticket_id)))) == 1
            signature = funding.player_signature_from_psbt(index, psbt.to_string())
            assert funding.verify_player_signature(index, signature)

    def test_holds_amounts_scripts_and_sighash_types(self) -> None:
        funding = build()
        psbt = PSBT.from_string(funding.psbt().to_string())
        assert psbt.fee() == funding.fee_sats
        assert [s.witness_script.data for s in psbt.inputs[:5]] == [
            e.escrow.witness_script for e in funding.escrows
        ]
        assert [s.sighash_type for s in psbt.inputs] == [1] * 5 + [None] * 2

    def test_psbts_of_something_else_are_refused(self) -> None:
        funding, other = build(), build(fee_rate_sat_vb=3)
        psbt = other.psbt()
        psbt.sign_with(PrivateKey(secret("carol")))
        index = funding.index_of(TICKETS["carol"])
        for text in (psbt.to_string(), "", "cHNidP8=", "not base64", "70736274ff00"):
            with pytest.raises(InvalidTransaction):
                funding.player_signature_from_psbt(index, text)
        with pytest.raises(InvalidSignature):
            funding.player_signature_from_psbt(index, funding.psbt().to_string())


class TestEscrowBatch:
    TICKETS = tuple(TicketEscrow(TICKETS[name], escrow(name), VALUE_SATS) for name in NAMES)

    def transaction(self) -> bytes:
        outputs = escrow_batch_outputs(self.TICKETS)
        planned = build_payment([coin(WALLET, 0, 400_000)], outputs, 2, CHANGE_SCRIPT, replaceable=False)
        return planned.unsigned_transaction

    def test_txid_is_known_before_signing(self) -> None:
        unsigned = self.transaction()
        signed = WALLET.sign_taproot_inputs(unsigned, [coin(WALLET, 0, 400_000)])
        assert EscrowBatch.of(unsigned, self.TICKETS) == EscrowBatch.of(signed, self.TICKETS)

    def test_escrow_i_is_output_i_in_the_order_of_tickets(self) -> None:
        batch = EscrowBatch.of(self.transaction(), reversed(self.TICKETS))
        assert [c.outpoint for c in batch.coins] == [OutPoint(batch.txid, i) for i in range(5)]
        assert [c.ticket_id for c in batch.coins] == sorted(TICKETS.values())
        found = batch.coin(TICKETS["bob"])
        assert found.escrow == escrow("bob")
        assert (
            EscrowBatch.find(self.transaction(), found.outpoint.vout, self.TICKETS[NAMES.index("bob")])
            == found
        )
        with pytest.raises(InvalidParameters):
            batch.coin("another ticket")

    def test_another_value_or_script_is_noticed(self) -> None:
        unsigned = self.transaction()
        for wrong in (
            replace(self.TICKETS[0], value_sats=VALUE_SATS - 1),
            replace(self.TICKETS[0], escrow=escrow("mallory")),
        ):
            with pytest.raises(InvalidTransaction):
                EscrowBatch.of(unsigned, [wrong, *self.TICKETS[1:]])
        for vout in (-1, 1, 5, 6):
            with pytest.raises(InvalidTransaction):
                EscrowBatch.find(unsigned, vout, self.TICKETS[0])

    def test_tickets_must_be_sound(self) -> None:
        for tickets in ([], [*self.TICKETS, self.TICKETS[0]], [replace(self.TICKETS[0], value_sats=329)]):
            with pytest.raises(InvalidParameters):
                escrow_batch_outputs(tickets)

    def test_legacy_inputs_are_refused(self) -> None:
        transaction = parse_transaction(self.transaction())
        transaction.vin[0].script_sig.data = b"\x51"
        with pytest.raises(InvalidTransaction):
            EscrowBatch.of(transaction.serialize(), self.TICKETS)
        with pytest.raises(InvalidTransaction):
            EscrowBatch.of(b"", self.TICKETS)
