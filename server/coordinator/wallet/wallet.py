"""The wallet proper."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from coordinator.contract.network import Network
from coordinator.contract.tx import Transaction
from coordinator.contract.utxo import OutPoint, Output
from coordinator.domain import competition as records
from coordinator.domain.errors import AlreadyExists, PreconditionFailed
from coordinator.domain.wallet.address import address_from_script, script_from_address
from coordinator.domain.wallet.coins import Branch, WalletCoin
from coordinator.domain.wallet.errors import WalletError
from coordinator.domain.wallet.keys import WalletKeys
from coordinator.domain.wallet.locks import payment_lock
from coordinator.domain.wallet.payment import PlannedTransaction, build_payment
from coordinator.domain.wallet.selection import Need, Selection, select_coins
from coordinator.ports.chain import Chain, TransactionRejected
from coordinator.ports.clock import Clock
from coordinator.store.atomic import atomic
from coordinator.store.intents import attempt_intent, finish_intent, record_intent
from coordinator.store.models import CoinLockRow, IntentRow, WalletAddressRow
from coordinator.store.tickets import IntentStatus
from coordinator.store.transactions import labels_of, record_transaction
from coordinator.wallet.sending import ensure_sent
from coordinator.wallet.tending import tend

# Addresses looked at beyond the last used one, so that a wallet restored from its seed finds its coins.
GAP_LIMIT = 20
_PARALLEL_LOOKUPS = 8


@dataclass(frozen=True, slots=True)
class Balance:
    """Sums of the wallet's coins, in sats. Locked coins are in none of the others."""

    confirmed_sats: int
    unconfirmed_sats: int
    locked_sats: int


def to_coin(coin: WalletCoin) -> records.Coin:
    """The record of a coin for a stored state."""
    return records.Coin(
        txid=coin.outpoint.txid,
        vout=coin.outpoint.vout,
        value_sats=coin.value_sats,
        branch=int(coin.branch),
        index=coin.index,
    )


def to_wallet_coin(coin: records.Coin, keys: WalletKeys) -> WalletCoin:
    """A stored coin with its script derived anew."""
    branch = Branch(coin.branch)
    return WalletCoin(
        outpoint=OutPoint(coin.txid, coin.vout),
        value_sats=coin.value_sats,
        script_pubkey=keys.descriptor.script_pubkey(branch, coin.index),
        branch=branch,
        index=coin.index,
    )


class Wallet:
    """A BIP86 wallet on any Esplora server.

    Coins that a decided transaction spends are locked in the database, in the same transaction as the
    decision.
    """

    def __init__(self, chain: Chain, keys: WalletKeys, network: Network, clock: Clock) -> None:
        self.keys = keys
        self._chain = chain
        self._network = network
        self._clock = clock
        self._lookups = asyncio.Semaphore(_PARALLEL_LOOKUPS)
        # One decision at a time: coins are read, chosen and locked under it.
        self.deciding = asyncio.Lock()

    async def receive_address(self) -> str:
        """The first receive address that never had a coin."""
        await self.coins()
        row = await WalletAddressRow.filter(branch=Branch.RECEIVE, used=False).order_by("index").first()
        assert row is not None
        return row.address

    async def new_script(self, branch: Branch = Branch.CHANGE) -> bytes:
        """A fresh script of the wallet; its address counts as used from now on."""
        async with atomic():
            await self._ensure_gap(branch)
            row = await WalletAddressRow.filter(branch=branch, used=False).order_by("index").first()
            assert row is not None
            row.used = True
            await row.save(update_fields=["used"])
            await self._ensure_gap(branch)
        return self.keys.descriptor.script_pubkey(branch, row.index)

    async def coins(self) -> list[WalletCoin]:
        """Unspent outputs, locked ones marked, as the chain shows them now."""
        found: list[WalletCoin] = []
        looked_at: set[str] = set()
        while True:
            for branch in Branch:
                await self._ensure_gap(branch)
            rows = [row for row in await WalletAddressRow.all() if row.address not in looked_at]
            if not rows:
                break
            for row, coins in zip(rows, await asyncio.gather(*map(self._coins_at, rows)), strict=True):
                looked_at.add(row.address)
                found.extend(coins)
                if coins and not row.used:
                    row.used = True
                    await row.save(update_fields=["used"])
        locked = {row.outpoint for row in await CoinLockRow.all()}
        return [
            WalletCoin(
                outpoint=coin.outpoint,
                value_sats=coin.value_sats,
                script_pubkey=coin.script_pubkey,
                branch=coin.branch,
                index=coin.index,
                confirmed=coin.confirmed,
                locked=str(coin.outpoint) in locked,
            )
            for coin in found
        ]

    async def own_outputs(self, transaction: Transaction) -> list[WalletCoin]:
        """The outputs of a transaction that pay the wallet, spent or not; locked ones are marked."""
        coins = []
        for vout, output in enumerate(transaction.outputs):
            try:
                address = address_from_script(output.script_pubkey, self._network)
            except WalletError:
                continue
            row = await WalletAddressRow.get_or_none(address=address)
            if row is None:
                continue
            outpoint = OutPoint(transaction.txid, vout)
            locked = await CoinLockRow.filter(outpoint=str(outpoint)).exists()
            coins.append(
                WalletCoin(
                    outpoint=outpoint,
                    value_sats=output.value_sats,
                    script_pubkey=output.script_pubkey,
                    branch=Branch(row.branch),
                    index=row.index,
                    confirmed=False,
                    locked=locked,
                )
            )
        return coins

    async def balance(self) -> Balance:
        """Sums over `coins`."""
        coins = await self.coins()
        free = [coin for coin in coins if not coin.locked]
        return Balance(
            confirmed_sats=sum(coin.value_sats for coin in free if coin.confirmed),
            unconfirmed_sats=sum(coin.value_sats for coin in free if not coin.confirmed),
            locked_sats=sum(coin.value_sats for coin in coins if coin.locked),
        )

    async def plan(
        self, outputs: Sequence[Output], fee_rate_sats_per_vb: float, *, replaceable: bool = True
    ) -> PlannedTransaction:
        """A payment from free coins, change included. Lock its inputs while still holding `deciding`.

        Raises:
            InsufficientFunds: the free coins do not cover it.
        """
        return build_payment(
            await self._dependable_coins(),
            outputs,
            fee_rate_sats_per_vb,
            await self.new_script(),
            include_unconfirmed=True,
            replaceable=replaceable,
        )

    async def select(self, need: Need) -> Selection:
        """Free coins for what `need` says. Lock them while still holding `deciding`.

        Raises:
            InsufficientFunds: the free coins do not cover it.
        """
        return select_coins(await self._dependable_coins(), need, include_unconfirmed=True)

    async def _dependable_coins(self) -> list[WalletCoin]:
        """Coins in blocks, and unconfirmed ones of the coordinator's own transactions.

        A deposit that is in no block can be replaced by whoever sent it; what spends it would be void then.
        """
        coins = await self.coins()
        own = await labels_of({coin.outpoint.txid for coin in coins if not coin.confirmed})
        return [coin for coin in coins if coin.confirmed or coin.outpoint.txid in own]

    async def tend(self) -> None:
        """Looks after payments and children until they are buried; see `wallet.tending`."""
        await tend(self._chain, self._clock.now())

    @staticmethod
    async def lock(coins: Iterable[WalletCoin], locked_by: str) -> None:
        """Reserves coins; call it in the transaction that stores what spends them.

        The database refuses a second lock on a coin.
        """
        await Wallet.lock_outpoints((coin.outpoint for coin in coins), locked_by)

    @staticmethod
    async def lock_outpoints(outpoints: Iterable[OutPoint], locked_by: str) -> None:
        """`lock` for coins known by their outpoints."""
        await CoinLockRow.bulk_create(
            CoinLockRow(outpoint=str(outpoint), locked_by=locked_by) for outpoint in outpoints
        )

    @staticmethod
    async def is_locked(names: Sequence[str]) -> bool:
        """Whether any coin is locked under one of these names."""
        return await CoinLockRow.filter(locked_by__in=list(names)).exists()

    @staticmethod
    async def unlock(locked_by: str) -> None:
        """Frees the coins of a transaction that will never be sent, or that is buried: had a coin been free
        before, the transaction that spends it could lose it in a reorganisation.
        """
        await CoinLockRow.filter(locked_by=locked_by).delete()

    async def send(
        self, address: str, amount_sats: int, fee_rate_sats_per_vb: float, idempotency_key: str
    ) -> tuple[str, int]:
        """Pays an address once per idempotency key: the signed transaction is stored, then broadcast.

        Returns:
            txid and fee in sats.

        Raises:
            WalletError: address, amount or fee rate is wrong.
            InsufficientFunds: the free coins do not cover it.
            AlreadyExists: the key was used with another address or amount.
        """
        script = script_from_address(address, self._network)
        key = payment_lock(idempotency_key)
        request: dict[str, object] = {"address": address, "amount_sats": amount_sats}
        async with self.deciding:
            intent = await record_intent(key, self._clock.now(), data=request)
            stored = intent.data
            if {name: stored.get(name) for name in request} != request:
                raise AlreadyExists(
                    "this idempotency key was used for another payment", reason="IDEMPOTENCY_KEY_REUSED"
                )
            if "transaction" not in stored:
                try:
                    planned = await self.plan([Output(script, amount_sats)], fee_rate_sats_per_vb)
                except Exception:
                    await intent.delete()
                    raise
                signed = self.keys.sign_taproot_inputs(planned.unsigned_transaction, planned.inputs)
                stored = request | {
                    "transaction": signed.hex(),
                    "txid": planned.txid,
                    "fee_sats": planned.fee_sats,
                }
                async with atomic():
                    # Another core on the same database may have decided on the same key meanwhile.
                    intent = await IntentRow.select_for_update().get(key=key)
                    if "transaction" in intent.data:
                        stored = intent.data
                    else:
                        intent.data = stored
                        await intent.save(update_fields=["data"])
                        await record_transaction(planned.txid, signed, "payment", self._clock.now())
                        await self.lock(planned.inputs, key)
        if intent.status == IntentStatus.ABANDONED:
            raise PreconditionFailed(
                "this payment was rejected by the chain; use a new idempotency key", reason="SEND_REJECTED"
            )
        if intent.status == IntentStatus.PENDING:
            await attempt_intent(key, self._clock.now())
            try:
                await ensure_sent(self._chain, bytes.fromhex(str(stored["transaction"])))
            except TransactionRejected:
                # It will never confirm as it is: nothing was sent, and its coins are free again.
                async with atomic():
                    await finish_intent(key, self._clock.now(), IntentStatus.ABANDONED)
                    await self.unlock(key)
                raise
            await finish_intent(key, self._clock.now())
        return str(stored["txid"]), int(str(stored["fee_sats"]))

    async def _coins_at(self, row: WalletAddressRow) -> list[WalletCoin]:
        branch = Branch(row.branch)
        async with self._lookups:
            utxos = await self._chain.utxos(row.address)
        return [
            WalletCoin(
                outpoint=OutPoint(utxo.txid, utxo.vout),
                value_sats=utxo.value_sats,
                script_pubkey=self.keys.descriptor.script_pubkey(branch, row.index),
                branch=branch,
                index=row.index,
                confirmed=utxo.confirmed,
            )
            for utxo in utxos
        ]

    async def _ensure_gap(self, branch: Branch) -> None:
        last_used = await WalletAddressRow.filter(branch=branch, used=True).order_by("-index").first()
        wanted = (last_used.index + 1 if last_used else 0) + GAP_LIMIT
        known = await WalletAddressRow.filter(branch=branch).count()
        for index in range(known, wanted):
            await WalletAddressRow.get_or_create(
                address=self.keys.descriptor.address(branch, index),
                defaults={"branch": int(branch), "index": index},
            )
