"""The built web app: files of a directory, and index.html for the app's own paths."""

import os
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope


class WebApp(StaticFiles):
    """Serves a directory that a bundler wrote: names in /assets/ have a hash in them and never change."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory=directory, html=True)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file, or index.html for a path that the app itself routes (no file extension)."""
        try:
            response = await super().get_response(path, scope)
        except HTTPException as error:
            own = os.path.splitext(path)[1] or path.startswith(("assets/", "api/")) or path == "api"
            if error.status_code != 404 or own:
                raise
            path = "index.html"
            response = await super().get_response(path, scope)
        hashed = path.startswith("assets/")
        response.headers["cache-control"] = "public, max-age=31536000, immutable" if hashed else "no-cache"
        return response
