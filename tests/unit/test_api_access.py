"""The access table: every RPC has a row, and a session token never suffices to change something."""

import pytest

from coordinator.api.access import ACCESS, ADMIN, IDEMPOTENT, TOKEN_HOLDER, Who
from coordinator.api.server import SERVICES

METHODS = {
    f"/{service.full_name}/{method.name}": method for service in SERVICES for method in service.methods
}


def test_every_rpc_has_a_row_and_every_row_an_rpc() -> None:
    assert METHODS.keys() == ACCESS.keys()


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_session_reads_and_changes_nothing(method: str) -> None:
    reads = method.rpartition("/")[2].startswith(("Get", "List", "Inspect", "Watch"))
    assert ACCESS[method].session == reads


@pytest.mark.parametrize("method", sorted(METHODS))
def test_what_strangers_may_call_is_read_only(method: str) -> None:
    access = ACCESS[method]
    if access.who is Who.ANYBODY and access is not TOKEN_HOLDER:
        assert method.rpartition("/")[2].startswith(("Get", "List", "Watch"))


def test_money_and_competitions_are_the_admins() -> None:
    wallet = {method for method in METHODS if "WalletService" in method}
    assert all(ACCESS[method].who is Who.ADMIN for method in wallet)
    for name in ("Create", "Cancel", "Pause", "Retry"):
        assert ACCESS[f"/coordinator.v1.CompetitionService/{name}Competition"] is ADMIN


def test_every_idempotent_method_exists_and_needs_a_caller() -> None:
    assert METHODS.keys() >= IDEMPOTENT
    assert all(ACCESS[method].who is not Who.ANYBODY for method in IDEMPOTENT)
