"""`coordinator admin` through a competition's whole life, and through TLS."""

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path

from coordinator.api.server import build_server
from coordinator.config import Settings
from coordinator_devnet.lightning.credentials import load_or_create
from support.admin_cli import AdminCli
from support.api import ADMIN, Api, running_api
from support.world import WorldPlayer


async def entered(api: Api, competition_id: str) -> list[WorldPlayer]:
    """Three players with entries, in order of their index."""
    players = [await api.world.player(f"player{i}") for i in range(3)]
    for player in players:
        await api.world.buy_ticket(competition_id, player)
        await api.world.enter(competition_id, player)
    return sorted(players, key=lambda player: player.ticket_id)


async def test_a_competition_watched_from_its_creation_to_its_end(tmp_path: Path) -> None:
    async with running_api(tmp_path, heartbeat_seconds=0.5) as api:
        admin, stranger = AdminCli(tmp_path, api.port), AdminCli(tmp_path, api.port, key=None)
        competition_id = await api.world.create()
        watching = await admin.start("watch", competition_id, "--json", "--until", "completed")
        assert watching.stdout is not None
        assert "snapshot" in json.loads(await asyncio.wait_for(watching.stdout.readline(), 20))
        never = await admin("attest", competition_id, "--refund")
        assert never.code == 4  # the oracle has no event yet
        assert "ORACLE_REFUSES" in never.err

        players = await entered(api, competition_id)
        found = (await stranger("entries", competition_id, "--json")).document["entries"]
        assert {e["id"] for e in found} == {p.entry_id for p in players}
        assert (
            len((await stranger("entries", competition_id, "--json", "--limit", "2")).document["entries"])
            == 2
        )
        await api.world.funded(competition_id, players)
        table = (await stranger("entries", competition_id)).out.splitlines()
        assert sorted(row.split()[0] for row in table[1:]) == ["0", "1", "2"]
        assert all("signed" in row for row in table[1:])
        rounds = await stranger("keymeld", competition_id)
        assert all(player.entry_id in rounds.out for player in players)
        assert rounds.out.count("completed") == 2
        board = (await stranger("leaderboard", competition_id, "--json")).document
        assert {row["entry_id"] for row in board["rows"]} == {p.entry_id for p in players}
        assert (await stranger("leaderboard", competition_id)).out.startswith("RANK  POINTS")
        too_late = await admin("cancel", competition_id, "--reason", "x", "--json")
        assert too_late.code == 6
        assert too_late.error["exit"] == 6

        assert (await admin("attest", competition_id, "--winners", "0,0")).code == 5
        event = (await stranger("attest", competition_id, "--winners", "1,0", "--json")).document
        assert event["id"] == competition_id
        assert len(event["attestation"]) == 64
        assert (await admin("attest", competition_id, "--winners", "1,0")).code == 0
        assert (await admin("attest", competition_id, "--refund")).code == 6
        assert (await admin("attest", competition_id, "--withhold")).code == 6
        await api.world.outcome_confirmed(competition_id)
        for index in (0, 1):
            await api.world.take_payout(competition_id, players[index])
        await api.world.at_rest(competition_id)

        out, err = await asyncio.wait_for(watching.communicate(), 30)
        assert watching.returncode == 0
        assert err == b""
        events = [json.loads(line)["event"] for line in out.splitlines()]
        states = [e["state"] for e in events if e["kind"] == "competition.state_changed"]
        assert states[-1] == "completed"
        assert {"awaiting_signing", "funding_settled", "outcome_broadcasted"} <= set(states)
        sequences = [e["sequence"] for e in events]
        assert sequences == sorted(set(sequences))
        # As admin it sees what is private, too.
        assert {e["data"].get("amount_sats") for e in events if e["kind"] == "ticket.settled"} == {50_000}

        text = (await admin("watch", competition_id, "--after", "0", "--until", "completed")).out
        assert "awaiting_keygen → awaiting_signing" in text
        assert "amount_sats=50,000" in text
        assert "100%" in text
        shown = (await stranger("show", competition_id)).out
        assert "winners       1, 0" in shown
        inspected = await admin("inspect", competition_id)
        assert "Money in motion" in inspected.out
        # Beyond it is good enough; the other branch is not.
        assert (await stranger("watch", competition_id, "--until", "funding_ready")).code == 0
        expired = await stranger("watch", competition_id, "--until", "expiry_broadcasted")
        assert expired.code == 6


def with_settings(api: Api, **changes: Path) -> Settings:
    return replace(api.core.settings, **changes)  # type: ignore[arg-type]


async def test_tls(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        for name in ("server", "client", "other"):
            load_or_create(tmp_path / name, "127.0.0.1")
        settings = with_settings(
            api,
            grpc_tls_certificate_file=tmp_path / "server" / "tls.cert",
            grpc_tls_key_file=tmp_path / "server" / "tls.key",
            grpc_tls_client_ca_file=tmp_path / "client" / "tls.cert",
        )
        server, port = build_server(replace(api.core, settings=settings), api.world.contracts)
        await server.start()
        admin = AdminCli(tmp_path, port)

        def files(authority: str, client: str) -> tuple[str, ...]:
            folder = tmp_path / client
            return (
                *("--tls-ca", str(tmp_path / authority / "tls.cert")),
                *("--client-cert", str(folder / "tls.cert"), "--client-key", str(folder / "tls.key")),
            )

        try:
            known = await admin("whoami", "--json", *files("server", "client"))
            assert known.code == 0, known.err
            assert known.document["user"]["npub"] == ADMIN.npub
            quick = ("--timeout", "3")
            assert (await admin("whoami", *quick, *files("other", "client"))).code == 7
            assert (await admin("whoami", *quick, *files("server", "other"))).code == 7
            assert (await admin("whoami", *quick, *files("server", "client")[:2])).code == 7
            assert (await admin("whoami", *quick, "--tls")).code == 7
            assert (await admin("whoami", *quick)).code == 7
            no_file = await admin("whoami", "--tls-ca", str(tmp_path / "none.pem"))
            assert no_file.code == 2
            assert (await admin("whoami", "--client-key", str(tmp_path / "client" / "tls.key"))).code == 2
        finally:
            await server.stop(1)


async def test_keys_come_from_files_only_and_never_show(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:
        admin = AdminCli(tmp_path, api.port)
        bad = tmp_path / "bad.key"
        bad.write_text("nsec1notakey" + "q" * 40)
        refused = await admin("whoami", "--key-file", str(bad))
        assert refused.code == 2
        assert "notakey" not in refused.out + refused.err
        assert (await admin("whoami", "--key-file", str(tmp_path / "none"))).code == 2
        path = Path(admin.environment["COORDINATOR_ADMIN_KEY_FILE"])
        os.chmod(path, 0o644)
        told = await admin("whoami", "--json")
        assert told.code == 0
        assert "chmod 600" in told.err
        assert json.loads(told.out)["user"]["is_admin"] is True
        assert ADMIN.nsec not in told.out + told.err
        given = await admin("--key", ADMIN.nsec, "whoami")
        assert given.code == 2
