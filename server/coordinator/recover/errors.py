"""Why a recovery ends, and the exit code that says so."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of `coordinator-recover`."""

    OK = 0
    """The prize is in a block; or, without --broadcast, everything checks and was printed."""
    REFUSED = 1
    """Contract, key, preimage, attestation or destination is wrong. Nothing was sent."""
    USAGE = 2
    """The command line is wrong."""
    LOST = 3
    """The player did not win: there is nothing to take."""
    UNFINISHED = 4
    """Something has to happen first (attestation, expiry, blocks): run it again, or use --wait."""
    TAKEN = 5
    """The money went elsewhere: sold back, closed together, or reclaimed after its time."""
    UNAVAILABLE = 6
    """The chain or the oracle did not answer, or the node refused a transaction."""


class RecoverError(Exception):
    """The recovery ends here; the message is for the player and holds no secret."""

    def __init__(self, code: Exit, message: str) -> None:
        super().__init__(message)
        self.code = code


def refused(message: str) -> RecoverError:
    """An input is wrong."""
    return RecoverError(Exit.REFUSED, message)
