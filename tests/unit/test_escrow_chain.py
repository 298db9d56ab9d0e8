"""The escrow's ways out on a chain: what blocks accept, and when (BIP68 counts real confirmations)."""

from pathlib import Path

import pytest

from coordinator.contract.escrow import (
    ESCROW_CLAWBACK_BLOCKS,
    LEAST_RELEASE_BLOCKS,
    clawback_transaction,
    complete_release,
    release_transaction,
    sign_release,
)
from coordinator.contract.funding import (
    EscrowBatch,
    EscrowCoin,
    FundingTransaction,
    TicketEscrow,
    escrow_batch_outputs,
)
from coordinator.contract.utxo import OutPoint
from coordinator.domain.wallet import Branch, WalletCoin, build_payment
from support.onchain import Regtest, escrow, preimage, secret, wallet

NAMES = ("alice", "bob", "carol", "dave", "erin", "frank")
WALLET = wallet()
CHANGE_SCRIPT = WALLET.descriptor.script_pubkey(Branch.CHANGE, 0)
PLAYERS_SCRIPT = b"\x51\x20" + b"\x07" * 32
# A competition that closed early: longer than the least by far.
RELEASE_BLOCKS = 1_200
FUNDING_SCRIPT = b"\x51\x20" + b"\x0f" * 32


def released(paid: EscrowCoin, name: str, blocks: int = RELEASE_BLOCKS) -> bytes:
    unsigned = release_transaction(paid.outpoint, paid.value_sats, paid.escrow, CHANGE_SCRIPT, 2, blocks)
    return complete_release(
        unsigned,
        paid.value_sats,
        paid.escrow,
        blocks,
        sign_release(secret(f"coordinator {name}"), unsigned, paid.value_sats, paid.escrow, blocks),
        sign_release(secret(name), unsigned, paid.value_sats, paid.escrow, blocks),
    )


def clawed_back(paid: EscrowCoin, name: str) -> bytes:
    return clawback_transaction(
        paid.outpoint, paid.value_sats, paid.escrow, PLAYERS_SCRIPT, 2, secret(name), preimage(name)
    )


@pytest.mark.timeout(120)
def test_every_way_out_opens_at_its_block(tmp_path: Path) -> None:
    chain = Regtest(tmp_path)
    mature = chain.fund(WALLET)
    tickets = [TicketEscrow(name, escrow(name), 50_000) for name in NAMES]
    planned = build_payment([mature], escrow_batch_outputs(tickets), 2, CHANGE_SCRIPT, replaceable=False)
    batch = EscrowBatch.of(planned.unsigned_transaction, tickets)
    # Everything below is signed before the escrow transaction is.
    releases = {name: released(batch.coin(name), name) for name in NAMES}
    clawbacks = {name: clawed_back(batch.coin(name), name) for name in NAMES}
    assert planned.change_outpoint is not None
    change = WalletCoin(
        planned.change_outpoint, planned.outputs[-1].value_sats, CHANGE_SCRIPT, Branch.CHANGE, 0
    )

    assert chain.accepts(WALLET.sign_taproot_inputs(planned.unsigned_transaction, planned.inputs))
    escrowed_at = chain.engine.height

    # Funding needs no waiting. It ends alice's and bob's other ways out.
    funding = FundingTransaction.build(
        [batch.coin("alice"), batch.coin("bob")],
        [change],
        funding_script=FUNDING_SCRIPT,
        funding_value_sats=120_000,
        change_script=WALLET.descriptor.script_pubkey(Branch.CHANGE, 1),
        fee_rate_sat_vb=2,
    )
    secrets = [secret("coordinator alice"), secret("coordinator bob"), WALLET.secret(Branch.CHANGE, 0)]
    signatures = [funding.sign(0, secret("alice")), funding.sign(1, secret("bob"))]
    assert not chain.accepts(clawbacks["carol"])
    assert chain.accepts(funding.complete(signatures, secrets))
    assert funding.funding_outpoint == OutPoint(funding.txid, 0)

    # A block confirms at a depth of 1 what it contains; a relative lock of n is met in the n-th block after.
    chain.mine_many(escrowed_at + ESCROW_CLAWBACK_BLOCKS - chain.engine.height - 2)
    assert chain.engine.height + 1 == escrowed_at + ESCROW_CLAWBACK_BLOCKS - 1
    assert not chain.accepts(clawbacks["carol"])
    chain.mine()
    assert not chain.accepts(clawbacks["alice"])
    assert not chain.accepts(releases["carol"])
    assert chain.accepts(clawbacks["carol"])
    assert chain.engine.height == escrowed_at + ESCROW_CLAWBACK_BLOCKS

    # Each release has the delay that was agreed: the least one comes 144 blocks later.
    least = released(batch.coin("frank"), "frank", LEAST_RELEASE_BLOCKS)
    chain.mine_many(escrowed_at + LEAST_RELEASE_BLOCKS - chain.engine.height - 2)
    assert not chain.accepts(least)
    chain.mine()
    assert not chain.accepts(releases["frank"])
    assert chain.accepts(least)
    assert chain.engine.height == escrowed_at + LEAST_RELEASE_BLOCKS

    # The longer one opens at its own block, and too late where the player was quicker.
    chain.mine_many(escrowed_at + RELEASE_BLOCKS - chain.engine.height - 2)
    assert not chain.accepts(releases["dave"])
    chain.mine()
    assert not chain.accepts(releases["carol"])
    assert not chain.accepts(releases["alice"])
    assert chain.accepts(releases["dave"])
    assert chain.engine.height == escrowed_at + RELEASE_BLOCKS
    assert not chain.accepts(clawbacks["dave"])
    assert chain.accepts(clawbacks["erin"])
