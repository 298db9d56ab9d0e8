"""Where every confirmed satoshi is: sums over the whole chain that an audit can check against each other."""

from dataclasses import dataclass

from .blocks import subsidy_sats
from .index import ChainIndex
from .scripts import is_unspendable, script_to_address


@dataclass(frozen=True, slots=True)
class Supply:
    """Confirmed coins at one block; the mempool does not count. All amounts in satoshis.

    Two identities hold on every chain:

    - `issued = utxo_total + burned`: what coinbases created, without the fees that they collected, is
      somewhere.
    - `circulating = paid_out + mined_elsewhere - paid_in - circulating_fees - circulating_burned`: what
      others than the devnet wallet hold is what they got, less what they gave back, paid in fees and burned.
    """

    height: int
    block_hash: str
    issued_sats: int
    """Sum over all blocks (genesis aside) of the coinbase's outputs less the block's fees."""
    max_issued_sats: int
    """The subsidies that consensus allowed; `issued` is less if a miner claimed less."""
    utxo_total_sats: int
    burned_sats: int
    """Value of provably unspendable outputs."""
    fees_total_sats: int
    """Fees of all confirmed transactions; coinbases collected them."""
    wallet_sats: int
    """Unspent outputs of the devnet wallet, immature coinbases included."""
    circulating_sats: int
    """Unspent outputs of everyone else."""
    paid_out_sats: int
    """Outputs to others in transactions that spend coins of the devnet wallet (the faucet's)."""
    mined_elsewhere_sats: int
    """Coinbase outputs to others."""
    paid_in_sats: int
    """Outputs to the devnet wallet in transactions that others made."""
    circulating_fees_sats: int
    """Fees of transactions that others made."""
    circulating_burned_sats: int
    """Unspendable outputs, of any transaction but a wallet's coinbase, worth more than nothing."""
    balances: dict[str, int]
    """Confirmed balance per address, devnet wallet included; scripts without an address go by
    `script:<hex>`.
    """


def audit_supply(index: ChainIndex, wallet_script: bytes) -> Supply:
    """Add up the chain, transaction by transaction, and independently the unspent outputs."""
    coinbase = fees = burned = paid_out = mined_elsewhere = paid_in = others_fees = others_burned = 0
    for confirmed in index.transactions():
        if confirmed.height == 0:
            continue
        tx = confirmed.tx
        to_wallet = sum(o.value_sats for o in tx.outputs if o.script == wallet_script)
        to_nobody = sum(o.value_sats for o in tx.outputs if is_unspendable(o.script))
        to_others = sum(o.value_sats for o in tx.outputs) - to_wallet
        fees += confirmed.fee_sats
        burned += to_nobody
        others_burned += to_nobody
        if tx.is_coinbase:
            coinbase += to_wallet + to_others
            mined_elsewhere += to_others
        elif any(
            spent is not None and spent.script == wallet_script
            for spent in (index.output(txin.outpoint) for txin in tx.inputs)
        ):
            paid_out += to_others
        else:
            paid_in += to_wallet
            others_fees += confirmed.fee_sats
    balances: dict[str, int] = {}
    wallet = total = 0
    for history in index.histories():
        coins = (index.coin(outpoint) for outpoint in history.unspent)
        balance = sum(coin.output.value_sats for coin in coins if coin is not None)
        total += balance
        if history.script == wallet_script:
            wallet = balance
        if balance:
            balances[script_to_address(history.script) or f"script:{history.script.hex()}"] = balance
    return Supply(
        height=index.height,
        block_hash=index.tip.block_hash,
        issued_sats=coinbase - fees,
        max_issued_sats=sum(subsidy_sats(height) for height in range(1, index.height + 1)),
        utxo_total_sats=total,
        burned_sats=burned,
        fees_total_sats=fees,
        wallet_sats=wallet,
        circulating_sats=total - wallet,
        paid_out_sats=paid_out,
        mined_elsewhere_sats=mined_elsewhere,
        paid_in_sats=paid_in,
        circulating_fees_sats=others_fees,
        circulating_burned_sats=others_burned,
        balances=balances,
    )
