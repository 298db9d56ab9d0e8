"""When a call is made again: gRPC's service config (gRPC proposal A6), read from `service_config.json`.

The file is the promise to every gRPC client (docs/grpc.md). This client keeps it by itself, since each
attempt needs a signature of its own.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

_FIRST_SECONDS: Final = 0.2
_LONGEST_SECONDS: Final = 5.0

NEED_IDEMPOTENCY_KEY: Final = frozenset(
    f"/coordinator.v1.{name}"
    for name in (
        "CompetitionService/CreateCompetition",
        "EntryService/CreateEntry",
        "PayoutService/RequestPayout",
        "TicketService/RequestTicket",
        "WalletService/Send",
    )
)
"""Methods that may be repeated because, and only if, all attempts carry the same `idempotency-key`."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Of one method.

    Attributes:
        max_attempts: the first one included.
        first_seconds, longest_seconds, multiplier: of the waits between them.
        codes: names of the statuses after which another attempt is made.
    """

    max_attempts: int
    first_seconds: float
    longest_seconds: float
    multiplier: float
    codes: frozenset[str]

    def delay(self, attempt: int) -> float:
        """Seconds to wait after a failed attempt, counted from 0."""
        return retry_delay(
            attempt, self.first_seconds, longest_seconds=self.longest_seconds, multiplier=self.multiplier
        )


def retry_delay(
    attempt: int,
    first_seconds: float = _FIRST_SECONDS,
    *,
    longest_seconds: float = _LONGEST_SECONDS,
    multiplier: float = 2,
) -> float:
    """Seconds to wait after a failed attempt (counted from 0): growing, and varied to spread many."""
    longest = min(first_seconds * multiplier**attempt, longest_seconds)
    return random.uniform(longest / 2, longest)


@cache
def service_config() -> str:
    """The service config as JSON, as gRPC libraries take it (`grpc.service_config`)."""
    return files("coordinator_client").joinpath("service_config.json").read_text("utf-8")


@cache
def retry_policies() -> Mapping[str, RetryPolicy]:
    """`/package.Service/Method` -> its policy; a method without one is not repeated."""
    policies = {}
    for group in json.loads(service_config())["methodConfig"]:
        policy = group["retryPolicy"]
        for name in group["name"]:
            policies[f"/{name['service']}/{name['method']}"] = RetryPolicy(
                max_attempts=policy["maxAttempts"],
                first_seconds=_seconds(policy["initialBackoff"]),
                longest_seconds=_seconds(policy["maxBackoff"]),
                multiplier=policy["backoffMultiplier"],
                codes=frozenset(policy["retryableStatusCodes"]),
            )
    return policies


def _seconds(text: str) -> float:
    """A duration in protobuf's JSON form: `0.2s`."""
    return float(text.removesuffix("s"))
