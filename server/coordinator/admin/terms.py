"""The terms of a new competition, from a file and from options, which go before it."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from coordinator.admin.errors import AdminError, Exit
from coordinator.admin.parser import TERMS_FLAGS, TIME_FLAGS
from coordinator.admin.timeform import is_set
from coordinator_client.errors import FieldError, MalformedAnswer
from coordinator_client.jsonform import from_json
from coordinator_client.proto.coordinator import v1

_INT_LIMITS = {"int32": 2**31, "int64": 2**63}


def create_request(arguments: argparse.Namespace, now: datetime) -> v1.CreateCompetitionRequest:
    """The request that a command line asks for. What makes no sense is for the core to say.

    Raises:
        AdminError: the file cannot be read, is no JSON, or has a field that terms do not have.
    """
    request = v1.CreateCompetitionRequest()
    if arguments.file is not None:
        request = _from_file(arguments.file)
    if arguments.id is not None:
        request.id = arguments.id
    terms = request.terms
    for flag in TERMS_FLAGS:
        value = getattr(arguments, flag.field)
        if value is not None:
            _check_fits(flag.field, value)
            setattr(terms, flag.field, value)
    _set_times(terms, arguments, now)
    return request


def with_flags(errors: tuple[FieldError, ...]) -> tuple[FieldError, ...]:
    """Field errors of a create request, each with the option that mends it."""
    flags = {f"terms.{flag.field}": flag.flag for flag in TERMS_FLAGS}
    flags |= {f"terms.{field}": flag for field, flag in TIME_FLAGS.items()} | {"id": "--id"}
    return tuple(
        replace(error, field=f"{error.field} ({flags[error.field]})") if error.field in flags else error
        for error in errors
    )


def _set_times(terms: v1.CompetitionTerms, arguments: argparse.Namespace, now: datetime) -> None:
    """Relative times count from each other, and from the file's."""
    now = now.astimezone(UTC).replace(microsecond=0)
    try:
        if arguments.starts_in is not None:
            terms.start_observation_at = now + timedelta(seconds=arguments.starts_in)
        elif arguments.starts_at is not None:
            terms.start_observation_at = arguments.starts_at
        if arguments.window is not None and is_set(terms.start_observation_at):
            terms.end_observation_at = terms.start_observation_at + timedelta(seconds=arguments.window)
        elif arguments.ends_at is not None:
            terms.end_observation_at = arguments.ends_at
        if arguments.signs_at is not None:
            terms.signing_at = arguments.signs_at
        elif is_set(terms.end_observation_at) and (
            arguments.signs_after is not None or not is_set(terms.signing_at)
        ):
            terms.signing_at = terms.end_observation_at + timedelta(seconds=arguments.signs_after or 0)
    except OverflowError:
        raise _invalid(FieldError("terms", "a time lies beyond the calendar")) from None


def _from_file(path: Path) -> v1.CreateCompetitionRequest:
    """Either the terms themselves, or the body of the REST request: `{"id": …, "terms": {…}}`."""
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        problem = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise AdminError(Exit.USAGE, "TERMS_FILE", f"{path} cannot be read: {problem}") from None
    try:
        value = json.loads(text, object_pairs_hook=_members)
    except (ValueError, RecursionError) as error:
        raise AdminError(Exit.INVALID, "TERMS_FILE", f"{path} is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise AdminError(Exit.INVALID, "TERMS_FILE", f"{path} must hold a JSON object")
    if "terms" not in value:
        value = {"terms": value}
    _check_known(v1.CreateCompetitionRequest, value, "")
    if isinstance(value["terms"], dict):
        _check_known(v1.CompetitionTerms, value["terms"], "terms.")
        for name, item in value["terms"].items():
            _check_fits(name, item)
    try:
        return from_json(v1.CreateCompetitionRequest, value)
    except MalformedAnswer as error:
        field, _, problem = str(error).partition(" ")
        raise _invalid(FieldError(field, problem)) from None


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two readers could take different ones of two amounts."""
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"member {twice!r} appears twice")
    return members


def _check_known(kind: Any, value: dict[str, Any], prefix: str) -> None:
    """A misspelled field must not become a default."""
    known = kind()._betterproto.meta_by_field_name
    wrong = [FieldError(f"{prefix}{name}", "is no field of it") for name in value if name not in known]
    if wrong:
        raise _invalid(*wrong)


def _check_fits(name: str, value: object) -> None:
    """A number that its field has no room for would be an error far from here."""
    terms: Any = v1.CompetitionTerms()
    limit = _INT_LIMITS.get(terms._betterproto.meta_by_field_name[name].proto_type)
    if limit is not None and isinstance(value, int) and not -limit <= value < limit:
        raise _invalid(FieldError(f"terms.{name}", f"{value:,} is out of range"))


def _invalid(*errors: FieldError) -> AdminError:
    return AdminError(Exit.INVALID, "INVALID_INPUT", "the terms are wrong", with_flags(errors))
