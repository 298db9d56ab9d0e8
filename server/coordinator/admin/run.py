"""Runs one command and says by text and exit code how it went."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from coordinator.admin import competitions, devnet, keymeld, wallet, watching
from coordinator.admin.connection import Connection
from coordinator.admin.errors import AdminError, Exit, exit_of
from coordinator.admin.output import Output, clean
from coordinator.admin.session import Session
from coordinator_client.errors import ApiError, ClientError, FieldError, Unavailable

log = logging.getLogger(__name__)

COMMANDS: Final[Mapping[str, Callable[[Session], Awaitable[None]]]] = {
    "create": competitions.create,
    "list": competitions.list_,
    "show": competitions.show,
    "inspect": competitions.inspect,
    "watch": watching.watch,
    "cancel": competitions.cancel,
    "pause": competitions.pause,
    "resume": competitions.resume,
    "retry": competitions.retry,
    "entries": competitions.entries,
    "leaderboard": competitions.leaderboard,
    "keymeld": keymeld.status,
    "wallet balance": wallet.balance,
    "wallet address": wallet.address,
    "wallet outputs": wallet.outputs,
    "wallet fees": wallet.fees,
    "wallet send": wallet.send,
    "whoami": wallet.whoami,
    "attest": devnet.attest,
}


def run(arguments: argparse.Namespace) -> int:
    """Runs the command of a parsed command line (`coordinator.admin.parser`). Returns the exit code."""
    out = Output(arguments.json)
    try:
        asyncio.run(_run(arguments, out))
        return int(Exit.OK)
    except AdminError as error:
        return _end(out, error.code, error.reason, str(error), error.fields)
    except ApiError as error:
        # With fields the message is only their list over again.
        message = "the request is refused" if error.field_errors else f"{error.detail}{_hint(error)}"
        return _end(out, exit_of(error), error.reason, message, error.field_errors)
    except Unavailable as error:
        return _end(out, Exit.UNAVAILABLE, error.reason or "UNAVAILABLE", f"{error}{_hint(error)}")
    except ClientError as error:
        return _end(out, Exit.UNEXPECTED, "CLIENT_ERROR", str(error))
    except KeyboardInterrupt:
        out.clear_status()
        return int(Exit.INTERRUPTED)
    except BrokenPipeError:
        # Whoever read has enough, e.g. `head`. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(Exit.OK)
    except Exception as error:
        log.debug("unexpected", exc_info=True)
        return _end(out, Exit.UNEXPECTED, "UNEXPECTED", f"{type(error).__name__}: {error}")


async def _run(arguments: argparse.Namespace, out: Output) -> None:
    connection = Connection.of(arguments)
    for warning in connection.warnings:
        out.note(warning)
    async with connection.open() as client:
        await COMMANDS[arguments.admin_command](Session(arguments, connection, client, out))


def _hint(error: ApiError | Unavailable) -> str:
    seconds = error.retry_after_seconds
    return f" (try again in {seconds:.0f} s)" if seconds else ""


def _end(out: Output, code: Exit, reason: str, message: str, fields: tuple[FieldError, ...] = ()) -> int:
    if out.as_json:
        described = [{"field": e.field, "description": e.description} for e in fields]
        out.clear_status()
        out.error_json(
            {"error": {"reason": reason, "message": message, "fields": described, "exit": int(code)}}
        )
    else:
        lines = [f"{clean(message)} [{clean(reason)}]"]
        lines += [f"  {clean(e.field)}: {clean(e.description)}" for e in fields]
        out.error("\n".join(lines))
    return int(code)
