"""Contracts that are funded on devnet's chain, and blocks that hold what no mempool would take."""

from dataclasses import dataclass, replace

from coordinator.contract.dlc import ContractSignatures, TicketedDLC
from coordinator.contract.network import Network
from coordinator.contract.tx import Transaction
from coordinator.domain.wallet.address import address_from_script
from coordinator_devnet.chain.blocks import build_block, median_time
from coordinator_devnet.chain.engine import BlockRejected
from coordinator_devnet.chain.transactions import Transaction as ChainTransaction
from support.chain import RunningChain
from support.contract import Competition, competition, sign

ANYONE_CAN_SPEND = b"\x51"


@dataclass(frozen=True)
class Funded:
    """A contract whose money is in the chain, with everybody's secrets and all signatures."""

    chain: RunningChain
    contract: Competition
    signatures: ContractSignatures

    @property
    def dlc(self) -> TicketedDLC:
        return self.contract.dlc

    @property
    def height(self) -> int:
        return self.chain.node.height()

    async def mine_with(self, raw: bytes) -> int:
        """A block with this transaction, which the mempool has to take first; returns its height."""
        assert await self.relay_reason(raw) is None
        await self.chain.mine()
        status = await self.chain.json(f"/tx/{Transaction.parse(raw).txid}/status")
        assert status["confirmed"], status  # type: ignore[index]
        return self.height

    async def relay_reason(self, raw: bytes) -> str | None:
        """Why the mempool refuses a transaction; None if it takes it."""
        response = await self.chain.http.post("/tx", content=raw.hex())
        return None if response.status_code == 200 else response.text

    def block_reason(self, *transactions: bytes, time_at: int | None = None) -> str | None:
        """Why the next block with these transactions is invalid; None if it is valid: it is mined then.

        No mempool is asked, so that consensus alone judges. Fees are burned.

        Args:
            transactions: Parents before children.
            time_at: The block's time; by default the earliest after its parent's.
        """
        node = self.chain.node
        times = node.index.block_times(node.height())
        block = build_block(
            previous_hash=node.tip_hash(),
            height=node.height() + 1,
            time_at=max(times[-1], median_time(times)) + 1 if time_at is None else time_at,
            transactions=[ChainTransaction.parse(raw) for raw in transactions],
            fees_sats=0,
            coinbase_script=ANYONE_CAN_SPEND,
        )
        try:
            node.engine.submit(block)
        except BlockRejected as error:
            return error.reason
        node._follow_best_chain()
        return None


async def fund(chain: RunningChain, contract: Competition) -> Competition:
    """Pay for a competition's contract; it is the same on another outpoint then."""
    parameters = contract.parameters
    script = contract.dlc.funding_script_pubkey
    address = address_from_script(script, Network.REGTEST)
    txid = await chain.faucet(address, parameters.funding_value)
    await chain.mine()
    outputs = (await chain.json(f"/tx/{txid}"))["vout"]  # type: ignore[index]
    vout = next(i for i, output in enumerate(outputs) if output["scriptpubkey"] == script.hex())
    return replace(contract, dlc=TicketedDLC(parameters, (txid, vout)))


async def funded(
    chain: RunningChain,
    entries: int = 3,
    places: int = 2,
    *,
    seed: str = "on chain",
    delta: int = 5,
    expiry: int | None = None,
) -> Funded:
    """A funded competition, everything signed by every member of each group."""
    contract = competition(entries, places, seed=seed, delta=delta, expiry=expiry)
    contract = await fund(chain, contract)
    return Funded(chain, contract, sign(contract))
