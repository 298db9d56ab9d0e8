"""`make demo` and `make run` as their user sees them: child processes, real sockets, public interfaces."""

import asyncio
from pathlib import Path

import httpx
import pytest

from coordinator_client.rest import RestClient
from coordinator_client.watch import Event, watch
from support.stack import StackPlace, documents, finish, interrupt, lines, running_stack


@pytest.mark.parametrize(
    ("arguments", "outcome"),
    [
        (("--outcome", "1,0"), "att2"),
        (("--outcome", "refund"), "att6"),
        (("--outcome", "expiry"), "exp"),
        (("--players", "2", "--places", "1"), "att0"),
    ],
)
async def test_a_demonstration_completes_and_accounts_for_every_sat(
    tmp_path: Path, arguments: tuple[str, ...], outcome: str
) -> None:
    place = StackPlace(tmp_path)
    code, output, errors = await finish(await place.start("demo", "--json", *arguments))
    assert code == 0, errors
    events, result = documents(output)
    assert result is not None
    assert result["state"] == "completed"
    assert result["conserved"] is True
    assert result["outcome"] == outcome
    sequences = [event["sequence"] for event in events]
    assert sequences == list(range(1, len(sequences) + 1))
    states = [event["data"]["to"] for event in events if event["kind"] == "competition.state_changed"]
    assert states[-1] == "completed"
    assert "funding_settled" in states
    assert ("expiry_broadcasted" in states) == (outcome == "exp")
    assert set(result["txids"]) >= {"escrow", "funding", "closing"}


async def test_it_ends_by_printing_completed_for_people(tmp_path: Path) -> None:
    code, output, errors = await finish(await StackPlace(tmp_path).start("demo"))
    assert code == 0, errors
    *_, verdict, state = output.strip().splitlines()
    assert verdict.startswith("every sat is accounted for")
    assert state == "completed"


@pytest.mark.parametrize("moment", ["entry.submitted", "contract.created", "ticket.settled"])
async def test_after_ctrl_c_a_restart_continues_from_the_stored_state(tmp_path: Path, moment: str) -> None:
    place = StackPlace(tmp_path)
    process = await place.start("demo", "--json")
    async for line in lines(process):
        if f'"{moment}"' in line:
            break
    await interrupt(process)
    code, output, errors = await finish(await place.start("demo", "--json"))
    assert code == 0, errors
    events, result = documents(output)
    assert result is not None
    assert result["state"] == "completed"
    assert result["conserved"] is True
    # The same competition: the log is shown again from its first event, without a gap.
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert events[0]["kind"] == "competition.created"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--players", "1"), "--players"),
        (("--places", "3"), "--places"),
        (("--outcome", "0,0"), "--outcome"),
        (("--outcome", "rain"), "--outcome"),
    ],
)
async def test_wrong_options_are_named(tmp_path: Path, arguments: tuple[str, ...], complaint: str) -> None:
    code, _, errors = await finish(await StackPlace(tmp_path).start("demo", *arguments))
    assert code == 1
    assert complaint in errors


async def test_a_client_that_loses_its_stream_misses_nothing(tmp_path: Path) -> None:
    """A browser-like client is cut off again and again while a competition is played on a running stack."""
    place = StackPlace(tmp_path)
    async with running_stack(place):
        seen: list[int] = []

        async def follow() -> None:
            position = 0
            while True:
                async with RestClient(place.gateway_url) as client:
                    count = 0
                    async for item in watch(client, after_sequence=position):
                        assert isinstance(item, Event)
                        position = item.sequence
                        seen.append(position)
                        count += 1
                        if count == 3:
                            break  # the connection is dropped, and a new one resumes

        following = asyncio.create_task(follow())
        code, output, errors = await finish(await place.start("demo", "--json"))
        assert code == 0, errors
        events, _ = documents(output)
        async with asyncio.timeout(20):
            while not seen or seen[-1] < events[-1]["sequence"]:
                await asyncio.sleep(0.05)
        following.cancel()
        assert seen == list(range(1, len(seen) + 1))
        async with httpx.AsyncClient(base_url=place.gateway_url) as client:
            page = (await client.get("/api/v1/competitions")).json()
            assert [competition["state"] for competition in page["competitions"]] == ["completed"]
            assert (await client.get("/api/docs")).status_code == 200
