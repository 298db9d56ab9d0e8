"""A core at the point where a contract is signed. Chain, Lightning and oracle have no part in it."""

from __future__ import annotations

import time
from pathlib import Path

from coordinator.config import Settings
from coordinator.contract.secp import public_key
from coordinator.core import Core
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


def contracting_settings(folder: Path, keymeld_url: str, **settings: object) -> Settings:
    """Settings of a core that can reach nothing but keymeld."""
    for file in ("cert", "macaroon"):
        (folder / file).write_bytes(b"none")
    nowhere = "http://127.0.0.1:9"
    return Settings.from_environment(
        {
            "COORDINATOR_DATABASE_URL": f"sqlite:///{folder}/core.sqlite3",
            "COORDINATOR_NETWORK": "regtest",
            "COORDINATOR_ESPLORA_URL": nowhere,
            "COORDINATOR_ORACLE_URL": nowhere,
            "COORDINATOR_LND_ADDRESS": "127.0.0.1:9",
            "COORDINATOR_LND_TLS_CERT_FILE": str(folder / "cert"),
            "COORDINATOR_LND_MACAROON_FILE": str(folder / "macaroon"),
            "COORDINATOR_KEYMELD_URL": keymeld_url,
            "COORDINATOR_ADMIN_NPUBS": "",
            "COORDINATOR_GATEWAY_TOKEN": "a-gateway-token-for-tests",
            "COORDINATOR_SECRET_KEY": "42" * 32,
            **{f"COORDINATOR_{name.upper()}": str(value) for name, value in settings.items()},
        }
    )


async def contracted_competition(core: Core, keymeld_url: str, entries: int, places: int) -> ContractCreated:
    """A competition in the store whose entries are in and whose contract is fixed."""
    now = int(time.time())
    terms = Terms(
        name="contracted",
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
