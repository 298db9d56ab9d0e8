"""The API described: /api/openapi.json for programs, /api/docs for people, with no assets from elsewhere."""

from collections.abc import Sequence
from importlib import resources

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from coordinator_gateway import jsoncodec, openapi
from coordinator_gateway.httprule import Binding, PathTemplate
from coordinator_gateway.routes import ApiRoute, Handler

_PAGE = {
    "/api/docs": ("index.html", "text/html"),
    "/api/docs/docs.js": ("docs.js", "text/javascript"),
    "/api/docs/docs.css": ("docs.css", "text/css"),
}


def routes(bindings: Sequence[Binding]) -> list[ApiRoute]:
    """The document and the page that shows it."""
    page = resources.files("coordinator_gateway").joinpath("docs_page")
    answers = [("/api/openapi.json", jsoncodec.dumps(openapi.document(bindings)), "application/json")]
    answers += [(path, page.joinpath(name).read_bytes(), kind) for path, (name, kind) in _PAGE.items()]
    return [_route(path, content, media_type) for path, content, media_type in answers]


def _route(path: str, content: bytes, media_type: str) -> ApiRoute:
    async def handle(scope: Scope, receive: Receive, send: Send, path_values: dict[str, str]) -> None:
        response = Response(content, 200, {"cache-control": "no-cache"}, media_type)
        await response(scope, receive, send)

    handler: Handler = handle
    return ApiRoute(PathTemplate(path), {"GET": handler, "HEAD": handler})
