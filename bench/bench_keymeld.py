"""How long the keys and signatures of a contract take, by number of entries and places.

A core's own steps from `contract_created` to `funding_ready` over a database of its own, against devnet's
keymeld over HTTP, which runs with its enclaves in processes of their own: keygen, signing, verification of
every signature, storing. Meanwhile a ticker shows how late the core's event loop is, and another one in an
idle process how late the machine alone makes one. Every size runs in a process of its own. Written to
bench/results/.
"""

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from measuring import (
    RESULTS,
    SIZES,
    children_processor_seconds,
    loop_lateness,
    machine,
    machine_lateness,
    markdown,
    processor_seconds_of_group,
    write_report,
)

QUICK_SIZES = SIZES[:3]
RESULT = RESULTS / "keymeld.json"
PROCESSOR_SECONDS = ("core_processor_seconds", "worker_processor_seconds", "keymeld_processor_seconds")


async def measure(entries: int, places: int) -> dict[str, Any]:
    """One size, in this process."""
    from coordinator.app import keep_what_is_loaded
    from coordinator.config import Settings
    from coordinator.domain.states import AwaitingKeygen, AwaitingSigning, ContractCreated, FundingReady
    from coordinator.store.contract_store import load_packed
    from coordinator.wiring import wired_core
    from support.keymeld import process

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in ("cert", "macaroon"):  # Lightning has no part in this
            (folder / file).write_bytes(b"none")
        async with process(folder / "keymeld") as keymeld:
            settings = Settings.from_environment(
                {
                    "COORDINATOR_DATABASE_URL": f"sqlite:///{folder}/core.sqlite3",
                    "COORDINATOR_NETWORK": "regtest",
                    "COORDINATOR_ESPLORA_URL": "http://127.0.0.1:9",
                    "COORDINATOR_ORACLE_URL": "http://127.0.0.1:9",
                    "COORDINATOR_LND_ADDRESS": "127.0.0.1:9",
                    "COORDINATOR_LND_TLS_CERT_FILE": str(folder / "cert"),
                    "COORDINATOR_LND_MACAROON_FILE": str(folder / "macaroon"),
                    "COORDINATOR_KEYMELD_URL": keymeld.url,
                    "COORDINATOR_ADMIN_NPUBS": "",
                    "COORDINATOR_GATEWAY_TOKEN": "a-gateway-token-for-benches",
                    "COORDINATOR_SECRET_KEY": "42" * 32,
                }
            )
            children = children_processor_seconds()
            async with wired_core(settings) as wired:
                status = await _contracted(wired.core, keymeld.url, entries, places)
                competition_id = status.facts.competition_id
                at: dict[str, float] = {}
                advance = wired.core.competitions.advance

                async def timed(*arguments: Any) -> None:
                    at[arguments[1].name] = perf_counter()
                    await advance(*arguments)

                wired.core.competitions.advance = timed  # type: ignore[method-assign]
                keep_what_is_loaded()
                used = time.process_time()
                async with machine_lateness() as idle, loop_lateness() as late:
                    await asyncio.sleep(0.2)
                    at[ContractCreated.name] = perf_counter()
                    await wired.runner.drive(competition_id)
                    stored_at = perf_counter()
                record = await wired.core.competitions.load(competition_id)
                if not isinstance(record.status, FundingReady):
                    sys.exit(
                        f"{record.status.name}: {record.last_error or getattr(record.status, 'reason', '')}"
                    )
                dlc = await wired.contracts.of(record.status)
                packed = await load_packed(competition_id)
                assert packed is not None
                result = {
                    "entries": entries,
                    "places": places,
                    "outcomes": dlc.outcome_count,
                    "signatures": dlc.job_count,
                    "keygen_sessions": len(status.facts.keygen_session_ids),
                    "keygen_seconds": round(at[AwaitingSigning.name] - at[AwaitingKeygen.name], 3),
                    "signing_seconds": round(stored_at - at[AwaitingSigning.name], 3),
                    "total_seconds": round(stored_at - at[ContractCreated.name], 3),
                    "milliseconds_a_signature": round(
                        (stored_at - at[AwaitingSigning.name]) * 1000 / dlc.job_count, 3
                    ),
                    "core_loop_late": late.milliseconds(),
                    "idle_process_late": idle,
                    "core_processor_seconds": round(time.process_time() - used, 2),
                    "keymeld_processor_seconds": round(processor_seconds_of_group(keymeld.pid), 2),
                    "core_peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
                }
        result["worker_processor_seconds"] = round(children_processor_seconds() - children, 2)
    return result


async def _contracted(core: Any, keymeld_url: str, entries: int, places: int) -> Any:
    """A competition whose entries are in and whose contract is fixed, in the store."""
    from coordinator.contract.secp import public_key
    from coordinator.domain.competition import (
        Announcement,
        Broadcast,
        EscrowPlan,
        Facts,
        FundingPlan,
        RosterPlayer,
    )
    from coordinator.domain.ids import new_uuid7
    from coordinator.domain.states import ContractCreated
    from coordinator.domain.terms import Terms
    from coordinator.operations.competitions import keygen_sessions_needed
    from coordinator.store.models import EntryRow, TicketRow
    from coordinator.store.tickets import TicketState
    from coordinator_client.keymeld import KeymeldClient, register_player
    from support.contract import EXPIRY, secret

    now = int(time.time())
    terms = Terms(
        name="bench",
        entry_fee_sats=100_000,
        coordinator_fee_percent=0,
        total_competition_pool_sats=0,
        total_allowed_entries=entries,
        min_entries=entries,
        number_of_places_win=places,
        number_of_values_per_entry=4,
        locations=("KORD", "KDEN"),
        scoring_fields=("temp_high", "wind_speed"),
        start_observation_at=now,
        end_observation_at=now,
        signing_at=now,
        relative_locktime_blocks=144,
        fee_rate_sats_per_vb=2,
    )
    competition_id = new_uuid7()
    session_ids = tuple(
        [new_uuid7() for _ in range(keygen_sessions_needed(terms, core.settings.keymeld_max_subsets))]
    )
    keys = core.keys(competition_id)
    facts = Facts(competition_id, terms, now, session_ids, new_uuid7(), keys.market_maker_pubkey)
    async with KeymeldClient(keymeld_url) as client:
        enclaves = await client.enclaves()
    roster, rows = [], []
    for index in range(entries):
        own, ticket_id, entry_id = secret("player", index), new_uuid7(), new_uuid7()
        registration = register_player(ticket_id, own, keygen_session_ids=session_ids, enclaves=enclaves)
        player = RosterPlayer(
            ticket_id=ticket_id,
            entry_id=entry_id,
            ephemeral_pubkey=public_key(own),
            ticket_hash=secret("ticket", index),
            payout_hash=secret("payout", index),
            escrow_coordinator_pubkey=public_key(secret("escrow", index)),
        )
        roster.append(player)
        common = {"competition_id": competition_id, "owner_pubkey": f"{index:064x}", "created_at": now}
        rows.append(
            TicketRow(
                id=ticket_id,
                state=TicketState.SETTLED,
                ticket_hash=player.ticket_hash.hex(),
                preimage_encrypted=b"",
                amount_sats=terms.entry_fee_sats,
                reserved_until_at=now,
                **common,
            )
        )
        rows.append(
            EntryRow(
                id=entry_id,
                ticket_id=ticket_id,
                expected_observations=[],
                ephemeral_pubkey=player.ephemeral_pubkey.hex(),
                payout_hash=player.payout_hash.hex(),
                keymeld={
                    "auth_pubkeys": {
                        session: key.hex() for session, key in registration.auth_pubkeys.items()
                    },
                    "ciphertexts": [
                        {"enclave_id": enclave, "key_epoch": epoch, "encrypted_private_key": ciphertext}
                        for (enclave, epoch), ciphertext in zip(
                            registration.enclave_key_epochs.items(),
                            registration.encrypted_private_keys.values(),
                            strict=True,
                        )
                    ],
                    "require_signing_approval": False,
                },
                **common,
            )
        )
    transaction = bytes(100)
    script = b"\x51\x20" + bytes(32)
    status = ContractCreated(
        facts=facts,
        roster=tuple(roster),
        escrow=EscrowPlan(transaction, "aa" * 32, (), 0, terms.entry_fee_sats, script, 2, now),
        escrow_broadcast=Broadcast("aa" * 32, transaction, now, 1),
        announcement=Announcement(public_key(secret("oracle")), public_key(secret("nonce")), EXPIRY),
        funding=FundingPlan("ab" * 32, transaction, terms.funding_value_sats(entries), (), 2.0, script, 0, 0),
    )
    await core.competitions.insert(status, now, [])
    for row in rows:
        await row.save(force_create=True)
    return status


def table(report: dict[str, Any]) -> str:
    """The results as docs/performance.md shows them."""
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "entries x places": lambda row: f"{row['entries']} x {row['places']}",
        "signatures": lambda row: f"{row['signatures']:,}",
        "keygen sessions": lambda row: str(row["keygen_sessions"]),
        "keygen, s": lambda row: f"{row['keygen_seconds']:.2f}",
        "signing, s": lambda row: f"{row['signing_seconds']:.2f}",
        "all, s": lambda row: f"{row['total_seconds']:.2f}",
        "processor time, s": lambda row: f"{sum(row[name] for name in PROCESSOR_SECONDS):.0f}",
        "ms a signature": lambda row: f"{row['milliseconds_a_signature']:.2f}",
        "core's loop late, max / p99, ms": lambda row: _late(row["core_loop_late"]),
        "of which the core computed, max, ms": lambda row: f"{row['core_loop_late']['own_max_ms']:.1f}",
        "an idle process late, max / p99, ms": lambda row: _late(row["idle_process_late"]),
        "core's peak MiB": lambda row: f"{row['core_peak_rss_mib']:.0f}",
    }
    return markdown(columns, report["results"])


def _late(row: dict[str, float]) -> str:
    return f"{row['max_ms']:.1f} / {row['p99_ms']:.1f}"


def run(sizes: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """Every size in a process of its own."""
    results = []
    for entries, places in sizes:
        command = [sys.executable, __file__, "--measure", "--size", str(entries), str(places)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        results.append(json.loads(done.stdout))
        print(json.dumps(results[-1]), flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", nargs=2, type=int, metavar=("ENTRIES", "PLACES"), help="only this size")
    parser.add_argument("--quick", action="store_true", help="only the sizes that take seconds")
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--table", action="store_true", help="print the last results in Markdown; no run")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(asyncio.run(measure(*arguments.size))))
        return
    if arguments.table:
        print(table(json.loads(arguments.output.read_text())))
        return
    facts = machine()
    sizes = [tuple(arguments.size)] if arguments.size else QUICK_SIZES if arguments.quick else SIZES
    results = run(sizes)
    whole = len(sizes) == len(SIZES)
    if whole or arguments.output != RESULT:
        write_report(arguments.output, facts, results=results)
    print(table({"results": results}))


if __name__ == "__main__":
    main()
