"""The world outside the coordinator, as a demonstration moves it: mining, wallets, the oracle's levers."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import httpx


class Outside:
    """devnet's own HTTP interfaces."""

    def __init__(self, chain_url: str, lightning_url: str, oracle_url: str) -> None:
        self._chain = httpx.AsyncClient(base_url=chain_url, timeout=20)
        self._lightning = httpx.AsyncClient(base_url=f"{lightning_url}/devnet/lightning", timeout=20)
        self._oracle = httpx.AsyncClient(base_url=oracle_url, timeout=20)

    async def __aenter__(self) -> Outside:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in (self._chain, self._lightning, self._oracle):
            await client.aclose()

    # Chain

    async def mine(self, blocks: int = 1, *, advance_seconds: int = 0) -> None:
        """Mines blocks, dated later than now if asked to."""
        body = {"blocks": blocks, "advance_seconds": advance_seconds}
        (await self._chain.post("/devnet/chain/mine", json=body)).raise_for_status()

    async def median_time_at(self) -> int:
        """The chain's median time past, unix seconds."""
        tip = (await self._chain.get("/blocks/tip/hash")).raise_for_status().text
        return int((await self._chain.get(f"/block/{tip}")).raise_for_status().json()["mediantime"])

    async def circulating_sats(self) -> int:
        """By the chain's own books: confirmed coins of everybody but the devnet's miner."""
        return int(
            (await self._chain.get("/devnet/chain/supply")).raise_for_status().json()["circulating_sats"]
        )

    async def fee_sats(self, txid: str) -> int:
        """What a transaction paid to its miner."""
        return int((await self._chain.get(f"/tx/{txid}")).raise_for_status().json()["fee"])

    # Lightning

    async def wallet(self, name: str) -> None:
        """A Lightning node for a player, with money in it."""
        (await self._lightning.post("/nodes", json={"name": name})).raise_for_status()

    async def balance_sats(self, name: str) -> int:
        """What a node can spend."""
        answer = (await self._lightning.get(f"/{name}")).raise_for_status().json()
        return int(answer["balance_msats"]) // 1000

    async def pay(self, name: str, payment_request: str) -> str:
        """Starts a payment; returns its state."""
        answer = await self._lightning.post(f"/{name}/pay", json={"payment_request": payment_request})
        return str(answer.raise_for_status().json()["state"])

    async def invoice(self, name: str, amount_sats: int, preimage: bytes) -> str:
        """An invoice over exactly this amount with this preimage; the same again if it exists."""
        body = {"amount_msats": amount_sats * 1000, "preimage": preimage.hex()}
        answer = await self._lightning.post(f"/{name}/invoice", json=body)
        return str(answer.raise_for_status().json()["payment_request"])

    # Oracle

    async def attest(self, event_id: str, winners: list[int] | None) -> None:
        """Makes the oracle attest: to a ranking, or to the refund of all."""
        body: dict[str, Any] = {"refund": True} if winners is None else {"winners": winners}
        answer = await self._oracle.post(f"/devnet/oracle/events/{event_id}/attest", json=body)
        answer.raise_for_status()

    async def withhold(self, event_id: str) -> None:
        """Keeps the oracle from ever attesting."""
        answer = await self._oracle.post(f"/devnet/oracle/events/{event_id}/withhold")
        answer.raise_for_status()

    async def event(self, event_id: str) -> dict[str, Any]:
        """The event as the oracle shows it to everybody."""
        answer = (await self._oracle.get(f"/oracle/events/{event_id}")).raise_for_status().json()
        assert isinstance(answer, dict)
        return answer
