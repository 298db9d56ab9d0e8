"""The coordinator's money: balances, outputs, fee rates, and sending."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coordinator.contract.sizes import MAX_MONEY_SATS
from coordinator.core import Core
from coordinator.domain.errors import FieldViolation, InvalidInput
from coordinator.domain.wallet.errors import WalletError
from coordinator.domain.wallet.estimates import estimate_for
from coordinator.store.models import CoinLockRow
from coordinator.store.transactions import labels_of
from coordinator.wallet import Balance

SEND_TARGET_BLOCKS = 6
MAX_KEY_CHARACTERS = 128
DEPOSIT = "deposit"


@dataclass(frozen=True, slots=True)
class Balances:
    """On chain and in Lightning channels."""

    on_chain: Balance
    lightning_sats: int


@dataclass(frozen=True, slots=True)
class WalletOutput:
    """An unspent output.

    `locked_by` names what uses it, or is empty. `label` says what it came from: "<role> <competition>" or
    "payment" for the coordinator's own transactions, else `DEPOSIT`.
    """

    txid: str
    vout: int
    value_sats: int
    address: str
    confirmed: bool
    locked_by: str
    label: str


async def balances(core: Core) -> Balances:
    """Everything the coordinator has.

    Raises:
        ChainUnavailable, LightningUnavailable: one side cannot be asked now.
    """
    return Balances(await core.wallet.balance(), await core.lightning.balance_msats() // 1000)


async def list_outputs(core: Core) -> Sequence[WalletOutput]:
    """All unspent outputs, in order of txid and index.

    Raises:
        ChainUnavailable: the chain cannot be asked now.
    """
    locked_by = {row.outpoint: row.locked_by for row in await CoinLockRow.all()}
    coins = sorted(await core.wallet.coins(), key=lambda coin: coin.outpoint)
    labels = await labels_of({coin.outpoint.txid for coin in coins})
    return [
        WalletOutput(
            txid=coin.outpoint.txid,
            vout=coin.outpoint.vout,
            value_sats=coin.value_sats,
            address=core.wallet.keys.descriptor.address(coin.branch, coin.index),
            confirmed=coin.confirmed,
            locked_by=locked_by.get(str(coin.outpoint), ""),
            label=labels.get(coin.outpoint.txid, DEPOSIT),
        )
        for coin in coins
    ]


async def fee_rates(core: Core) -> Mapping[int, float]:
    """Estimated fee rates: confirmation target in blocks -> sat/vB."""
    return await core.chain.fee_rates()


async def send(
    core: Core, address: str, amount_sats: int, fee_rate_sats_per_vb: int, idempotency_key: str
) -> tuple[str, int]:
    """Pays an address once per idempotency key (one is made up if there is none). Returns txid and fee.

    Raises:
        InvalidInput: names the field that is wrong.
        InsufficientFunds: the free coins do not cover it.
        AlreadyExists: the key was used for another payment.
        TransactionRejected, ChainUnavailable: it was recorded and not taken; the same key tries again.
    """
    if len(idempotency_key) > MAX_KEY_CHARACTERS:
        raise InvalidInput.of("idempotency_key", f"has more than {MAX_KEY_CHARACTERS} characters")
    if not 0 < amount_sats <= MAX_MONEY_SATS:
        raise InvalidInput.of("amount_sats", "is no amount of bitcoin")
    if fee_rate_sats_per_vb < 0:
        raise InvalidInput.of("fee_rate_sats_per_vb", "must not be negative")
    rate: float = fee_rate_sats_per_vb or await _estimate(core)
    try:
        return await core.wallet.send(address, amount_sats, rate, idempotency_key or secrets.token_hex(16))
    except WalletError as error:
        # The wallet names its own arguments; the caller knows the request's.
        field = _FIELDS.get(error.field, error.field)
        violations = [FieldViolation(field, v.description) for v in error.violations]
        raise InvalidInput(violations) from error


async def _estimate(core: Core) -> float:
    default = core.settings.default_fee_rate_sats_per_vb
    return estimate_for(await core.chain.fee_rates(), SEND_TARGET_BLOCKS, default)


_FIELDS = {
    "outputs[0].value_sats": "amount_sats",
    "fee_rate_sat_vb": "fee_rate_sats_per_vb",
}
