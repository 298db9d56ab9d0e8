"""What a method's HTTP answer has besides its JSON: the session cookie."""

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from coordinator_gateway.core import SESSION_COOKIE, public_request_url
from coordinator_gateway.jsonanswer import RawHeaders

# Called with the request, the core's response message and the configured public URL; gives further headers.
ResponseHook = Callable[[Request, Any, str], RawHeaders]


def _keep_session(request: Request, message: Any, public_url: str) -> RawHeaders:
    response = Response()
    response.set_cookie(
        SESSION_COOKIE,
        message.session_token,
        max_age=max(0, int(message.expires_at.seconds - time.time())),
        path="/",
        secure=urlsplit(public_request_url(request, public_url)).scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return _cookies(response)


def _end_session(request: Request, message: Any, public_url: str) -> RawHeaders:
    response = Response()
    drop_session(request, response, public_url)
    return _cookies(response)


def _cookies(response: Response) -> RawHeaders:
    return [item for item in response.raw_headers if item[0] == b"set-cookie"]


def drop_session(request: Request, response: Response, public_url: str) -> None:
    """Makes the browser forget the session cookie."""
    response.delete_cookie(
        SESSION_COOKIE,
        path="/",
        secure=urlsplit(public_request_url(request, public_url)).scheme == "https",
        httponly=True,
        samesite="strict",
    )


RESPONSE_HOOKS: dict[str, ResponseHook] = {
    "coordinator.v1.UserService.Login": _keep_session,
    "coordinator.v1.UserService.Logout": _end_session,
}
