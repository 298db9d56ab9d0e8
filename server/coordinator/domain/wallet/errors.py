"""What can be wrong with a wallet's input."""

from coordinator.domain.errors import FieldViolation, InvalidInput, PreconditionFailed


class WalletError(InvalidInput):
    """An input of the wallet is wrong.

    Attributes:
        field: Which one, e.g. `address`, `outputs[1].value_sats`, `fee_rate_sat_vb`.
    """

    reason = "INVALID_WALLET_INPUT"

    def __init__(self, field: str, description: str) -> None:
        super().__init__([FieldViolation(field, description)])
        self.field = field


class InsufficientFunds(PreconditionFailed):
    """The coins that may be spent do not cover outputs and fee.

    Attributes:
        needed_sats: Outputs and the fee of spending all of these coins.
        available_sats: Value of the coins that may be spent and are worth more than their own fee.
    """

    reason = "INSUFFICIENT_FUNDS"

    def __init__(self, needed_sats: int, available_sats: int) -> None:
        super().__init__(f"{needed_sats} sats are needed and {available_sats} sats are available")
        self.needed_sats = needed_sats
        self.available_sats = available_sats
