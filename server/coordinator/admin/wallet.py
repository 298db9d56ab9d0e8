"""Commands on the coordinator's wallet, and on who one is."""

from __future__ import annotations

import secrets
import signal
import sys
from collections.abc import Sequence

from coordinator.admin.errors import AdminError, Exit
from coordinator.admin.jsonform import message_json
from coordinator.admin.output import Cell, Styled, clean, sats
from coordinator.admin.session import Session, all_pages
from coordinator_client.errors import Unavailable
from coordinator_client.proto.coordinator import v1


async def balance(session: Session) -> None:
    """`wallet balance`."""
    session.connection.require_key()
    found = await session.client.wallet.get_balance(v1.GetBalanceRequest())
    if session.out.as_json:
        session.out.document(message_json(found))
        return
    session.out.table(
        ("WHERE", "SATS"),
        [
            ("on chain, free", sats(found.confirmed_sats)),
            ("on chain, unconfirmed", sats(found.unconfirmed_sats)),
            ("on chain, in use", sats(found.locked_sats)),
            ("Lightning", sats(found.lightning_sats)),
        ],
        right="SATS",
    )


async def address(session: Session) -> None:
    """`wallet address`."""
    session.connection.require_key()
    found = await session.client.wallet.get_address(v1.GetAddressRequest())
    if session.out.as_json:
        session.out.document(message_json(found))
    else:
        session.out.line(found.address)


async def outputs(session: Session) -> None:
    """`wallet outputs`."""
    session.connection.require_key()

    async def fetch(size: int, token: str) -> tuple[Sequence[v1.WalletOutput], str]:
        page = await session.client.wallet.list_outputs(
            v1.ListOutputsRequest(page_size=size, page_token=token)
        )
        return page.outputs, page.next_page_token

    found, token = await all_pages(fetch, session.arguments.limit)
    if session.out.as_json:
        session.out.document(message_json(v1.ListOutputsResponse(outputs=found, next_page_token=token)))
        return
    session.out.table(
        ("OUTPOINT", "SATS", "CONFIRMED", "ADDRESS", "FROM", "LOCKED BY"),
        [
            (
                f"{o.txid}:{o.vout}",
                sats(o.value_sats),
                "yes" if o.confirmed else Styled("no", "yellow"),
                o.address,
                o.label or "-",
                o.locked_by or "-",
            )
            for o in found
        ],
        right="SATS",
    )
    if token:
        session.out.note(f"there are more than {session.arguments.limit}")


async def fees(session: Session) -> None:
    """`wallet fees`."""
    session.connection.require_key()
    found = await session.client.wallet.get_estimated_fees(v1.GetEstimatedFeesRequest())
    if session.out.as_json:
        session.out.document(message_json(found))
        return
    rates = found.sats_per_vb_by_target_blocks
    session.out.table(
        ("BLOCKS", "SAT/VB"),
        [(str(target), f"{rates[target]:.1f}") for target in sorted(rates)],
        right="BLOCKS SAT/VB",
    )


async def send(session: Session) -> None:
    """`wallet send`. The idempotency key is shown first: with it what was interrupted can be finished."""
    session.connection.require_key()
    arguments = session.arguments
    key = arguments.idempotency_key or secrets.token_hex(16)
    # Read from a script there is nobody to ask; better told before anything else.
    if not arguments.yes and not sys.stdin.isatty():
        raise AdminError(Exit.USAGE, "USAGE", "there is nobody to ask here: confirm with --yes")
    if not arguments.yes:
        coordinator = await session.client.competitions.get_coordinator(v1.GetCoordinatorRequest())
        rate = f"{arguments.fee_rate} sat/vB" if arguments.fee_rate else "the estimate for 6 blocks"
        session.out.note(
            f"Send {sats(arguments.amount_sats)} sats on {coordinator.network} to {arguments.recipient}"
            f" at {rate}."
        )
        _confirm(session)
    session.out.note(f"idempotency key: {key}")
    request = v1.SendRequest(
        address=arguments.recipient,
        amount_sats=arguments.amount_sats,
        fee_rate_sats_per_vb=arguments.fee_rate,
        idempotency_key=key,
    )
    try:
        sent = await session.client.wallet.send(request)
    except Unavailable as error:
        raise AdminError(
            Exit.UNAVAILABLE,
            "UNAVAILABLE",
            f"{error}; it may have been sent: repeat with --idempotency-key {key}, which sends it once",
        ) from None
    if session.out.as_json:
        session.out.document({**message_json(sent), "idempotency_key": key})
        return
    session.out.facts([("txid", sent.txid), ("fee", f"{sats(sent.fee_sats)} sats")])


def _confirm(session: Session) -> None:
    """Raises AdminError unless the answer is yes."""
    # asyncio's own handler would only take note of Ctrl-C, and the reading go on.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        # The question goes where notes go: standard output is for results.
        print("Really? Type yes: ", end="", file=sys.stderr, flush=True)
        answer = sys.stdin.readline()
    finally:
        signal.signal(signal.SIGINT, handler)
    if answer.strip().lower() not in ("y", "yes"):
        raise AdminError(Exit.INTERRUPTED, "NOT_CONFIRMED", "not confirmed; nothing was sent")


async def whoami(session: Session) -> None:
    """`whoami`. Registers the key, which is harmless, since nothing else tells what the core takes it for."""
    coordinator = await session.client.competitions.get_coordinator(v1.GetCoordinatorRequest())
    user = None
    if session.connection.key is not None:
        user = (await session.client.users.register(v1.RegisterRequest())).user
    if session.out.as_json:
        session.out.document(
            {
                "user": None if user is None else message_json(user),
                "coordinator": message_json(coordinator),
            }
        )
        return
    facts: list[tuple[str, Cell]] = [("you", Styled("no key: only what is public", "yellow"))]
    if user is not None:
        admin = Styled("yes", "green") if user.is_admin else Styled("no", "red")
        facts = [("you", user.npub), ("hex", user.pubkey), ("admin", admin)]
    facts += [
        ("core", session.connection.address),
        ("version", coordinator.version),
        ("network", coordinator.network),
        ("coordinator", coordinator.nostr_npub),
        ("Lightning node", coordinator.lightning_pubkey),
        ("chain", coordinator.esplora_url),
        ("keymeld", coordinator.keymeld_url),
        ("oracle", coordinator.oracle_url),
    ]
    facts += [("warning", Styled(clean(text), "yellow")) for text in coordinator.warnings]
    session.out.facts(facts)
