"""The `demo` command: options, what is shown, and the audit at the end."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from contextlib import AsyncExitStack
from typing import Any

import httpx

from coordinator_client.errors import ClientError
from coordinator_client.proto.coordinator.v1 import Competition
from coordinator_client.watch import Event
from coordinator_devnet import stack as stacks
from coordinator_devnet.stack import Stack, StackError

from .outside import Outside
from .plan import DemoError, Outcome, Plan
from .play import Play, balances, create

FINAL_STATE = "completed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `demo`."""
    stacks.add_arguments(parser)
    parser.add_argument("--players", type=int, default=3, help="how many compete (2 to 25)")
    parser.add_argument("--places", type=int, default=2, help="how many win, fewer than players (1 to 5)")
    parser.add_argument(
        "--outcome",
        default="",
        help="winners' player indices in order of place (1,0), refund, or expiry; default: the first players",
    )
    parser.add_argument("--json", action="store_true", help="events and result as JSON lines")
    parser.add_argument(
        "--new", action="store_true", help="start a new competition even if one was interrupted"
    )


async def serve(args: argparse.Namespace) -> int:
    """Plays one competition. Returns the exit code: 0 only if it completed and every sat was found again."""
    started = time.monotonic()
    try:
        outcome = _checked(args)
        async with AsyncExitStack() as opened:
            stack = await _stack(args, opened)
            urls = (stack.chain_url, stack.lightning_url, stack.oracle_url)
            outside = await opened.enter_async_context(Outside(*urls))
            plan = await _plan(args, stack, outside, outcome)
            return await _play(args, stack, outside, plan, started)
    except (DemoError, StackError, ClientError, httpx.HTTPError) as error:
        print(f"demo: {type(error).__name__}: {error}", file=sys.stderr)
        return 1


def _checked(args: argparse.Namespace) -> Outcome:
    if not 2 <= args.players <= 25:
        raise DemoError("--players must be 2 to 25")
    if not 1 <= args.places <= min(5, args.players - 1):
        raise DemoError("--places must be 1 to 5 and fewer than the players")
    return Outcome.parse(args.outcome, args.players, args.places)


async def _stack(args: argparse.Namespace, opened: AsyncExitStack) -> Stack:
    """The running stack of these ports, or one started for this demonstration."""
    stack = stacks.configured(args)
    try:
        async with httpx.AsyncClient(timeout=2) as client:
            answer = await client.get(f"{stack.gateway_url}/api/v1/health_check")
        if answer.is_success:
            return stack
    except httpx.HTTPError:
        pass
    if not args.json:
        print(f"no stack answers at {stack.gateway_url}: starting one", flush=True)
    args.quiet = True
    say = (lambda _: None) if args.json else print
    return await opened.enter_async_context(stacks.running(args, say))


async def _plan(args: argparse.Namespace, stack: Stack, outside: Outside, outcome: Outcome) -> Plan:
    folder = stack.data_dir / "demo"
    plan = None if args.new else Plan.unfinished(folder)
    if plan is not None:
        if not args.json:
            print(f"going on with {plan.competition_id} (--new starts another)")
        return plan
    plan = await create(stack, outside, args.players, args.places, outcome)
    plan.save(folder)
    return plan


async def _play(args: argparse.Namespace, stack: Stack, outside: Outside, plan: Plan, started: float) -> int:
    folder = stack.data_dir / "demo"
    show = _show_json if args.json else _show
    play = Play(stack, outside, plan, show, lambda: plan.save(folder))
    if not args.json:
        print(
            f"competition {plan.competition_id}: {len(plan.players)} players, {plan.places} places,"
            f" outcome {plan.outcome}\n"
        )
    try:
        competition = await play.run()
    except DemoError:
        plan.finished = True
        plan.save(folder)
        raise
    fees_sats = await play.pay_attention_to_fees()
    after = await _settled_balances(stack, outside, plan, fees_sats)
    plan.finished = True
    plan.save(folder)
    chain_sats = plan.before_circulating_sats - await outside.circulating_sats()
    # The coordinator's word on its wallet, and the chain's own: both must miss nothing but the fees.
    conserved = sum(after.values()) + fees_sats == sum(plan.before_sats.values()) and chain_sats == fees_sats
    result = _result(plan, competition, play, after, fees_sats, time.monotonic() - started) | {
        "chain_lost_sats": chain_sats,
        "conserved": conserved,
    }
    if args.json:
        print(json.dumps(result), flush=True)
    else:
        _print_result(result)
    return 0 if conserved and result["state"] == FINAL_STATE else 1


async def _settled_balances(stack: Stack, outside: Outside, plan: Plan, fees_sats: int) -> dict[str, int]:
    """Balances once the chain's index and the nodes have caught up; as they are if they never add up."""
    for _ in range(20):
        after = await balances(stack, outside, plan)
        if sum(after.values()) + fees_sats == sum(plan.before_sats.values()):
            break
        await asyncio.sleep(0.25)
    return after


def _result(
    plan: Plan,
    competition: Competition,
    play: Play,
    after: dict[str, int],
    fees_sats: int,
    seconds: float,
) -> dict[str, Any]:
    return {
        "competition_id": plan.competition_id,
        "state": (competition.state.name or "").lower(),
        "outcome": competition.outcome,
        "winners": list(competition.winners),
        "txids": play.txids,
        "fees_sats": play.fees_sats,
        "before_sats": plan.before_sats,
        "after_sats": after,
        "total_fees_sats": fees_sats,
        "seconds": round(seconds, 1),
    }


def _show(event: Event) -> None:
    facts = ", ".join(f"{name} {_short(value)}" for name, value in event.data.items())
    time_of_day = event.occurred_at.astimezone().strftime("%H:%M:%S")
    print(f"{event.sequence:>5}  {time_of_day}  {event.kind:<28}  {facts}", flush=True)


def _show_json(event: Event) -> None:
    line = {
        "sequence": event.sequence,
        "kind": event.kind,
        "state": event.state,
        "occurred_at": event.occurred_at.isoformat(),
        "data": event.data,
    }
    print(json.dumps({"event": line}), flush=True)


def _short(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}" if value < 10**9 else str(value)
    if isinstance(value, list):
        return "[" + ", ".join(_short(item) for item in value) + "]"
    text = str(value)
    return text if len(text) <= 16 else f"{text[:8]}…{text[-4:]}"


def _print_result(result: dict[str, Any]) -> None:
    print("\ntransactions")
    for role, txids in result["txids"].items():
        for txid in txids:
            print(f"  {role:<8} {txid}  fee {result['fees_sats'][txid]:>6,} sats")
    print("\nbalances in sats               before            after        change")
    for name, before in result["before_sats"].items():
        after = result["after_sats"][name]
        print(f"  {name:<22} {before:>15,} {after:>16,} {after - before:>+13,}")
    before = sum(result["before_sats"].values())
    after = sum(result["after_sats"].values())
    print(f"  {'all':<22} {before:>15,} {after:>16,} {after - before:>+13,}")
    print(f"  {'fees to miners':<22} {'':>15} {'':>16} {result['total_fees_sats']:>+13,}")
    print(f"  {'gone, says the chain':<22} {'':>15} {'':>16} {result['chain_lost_sats']:>+13,}")
    verdict = "every sat is accounted for" if result["conserved"] else "SATS ARE MISSING OR TOO MANY"
    winners = ", ".join(map(str, result["winners"]))
    print(f"\n{verdict}; outcome {result['outcome']}, winners {winners}; {result['seconds']} s")
    print(result["state"])
