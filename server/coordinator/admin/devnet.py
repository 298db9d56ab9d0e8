"""`attest`: devnet's oracle attests on demand. Oracles that are real have no such thing."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

import httpx

from coordinator.admin.errors import AdminError, Exit
from coordinator.admin.output import Cell
from coordinator.admin.session import Session
from coordinator_client.proto.coordinator import v1

_EXITS: Final = {400: Exit.INVALID, 404: Exit.NOT_FOUND, 409: Exit.PRECONDITION}


async def attest(session: Session) -> None:
    """`attest`."""
    arguments = session.arguments
    coordinator = await session.client.competitions.get_coordinator(v1.GetCoordinatorRequest())
    if coordinator.network != "regtest":
        raise AdminError(
            Exit.PRECONDITION, "NOT_DEVNET", f"this is {coordinator.network}: its oracle attests by itself"
        )
    # Its event has the competition's id, and comes into being only with the state event_created.
    await session.client.competitions.get_competition(
        v1.GetCompetitionRequest(competition_id=arguments.competition_id)
    )
    action, body = "attest", dict[str, Any]()
    if arguments.withhold:
        action = "withhold"
    else:
        body = {"refund": True} if arguments.refund else {"winners": arguments.winners}
    base = (arguments.oracle_url or coordinator.oracle_url).rstrip("/")
    url = f"{base}/devnet/oracle/events/{quote(arguments.competition_id, safe='')}/{action}"
    event = await _post(url, body, session.connection.timeout_seconds)
    if session.out.as_json:
        session.out.document(event)
        return
    facts: list[tuple[str, Cell]] = [
        (name.replace("_", " "), str(event[name]))
        for name in ("id", "status", "signing_date", "attestation")
        if event.get(name) is not None
    ]
    session.out.facts(facts)


async def _post(url: str, body: dict[str, Any], timeout_seconds: float) -> dict[str, Any]:
    """The oracle's event after it did what was asked for."""
    try:
        async with httpx.AsyncClient(timeout=timeout_seconds) as http:
            response = await http.post(url, json=body)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        problem = str(error) or type(error).__name__
        raise AdminError(
            Exit.UNAVAILABLE, "ORACLE_UNAVAILABLE", f"the oracle does not answer: {problem}"
        ) from None
    try:
        answer = response.json()
    except ValueError:
        answer = None
    answer = answer if isinstance(answer, dict) else {}
    if response.status_code != 200:
        problem = str(answer.get("error") or f"HTTP {response.status_code}")
        raise AdminError(
            _EXITS.get(response.status_code, Exit.UNEXPECTED),
            "ORACLE_REFUSES",
            f"the oracle refuses: {problem}",
        )
    return answer
