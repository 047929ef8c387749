"""How a view is declared: JSON out, and the token in where one is set."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from aegis_app.application import app, settings
from aegis_app.keys import bears

Answer = tuple[int, Any]
View = Callable[..., Awaitable[Answer]]
JSON: Final = "application/json"


def page(path: str, *, guarded: bool = True) -> Callable[[View], View]:
    """Serve a coroutine's (status, answer) at `path` as JSON. `guarded`: behind `AEGIS_WEB_TOKEN`, where that is set."""

    def declare(view: View) -> View:
        async def serve(web: Any, request: Any, **found: str) -> Any:
            if guarded and settings.web_token is not None and not bears(request.headers.get("Authorization"), settings.web_token):
                return _json(web, 401, {"error": "this view wants `Authorization: Bearer` with the worker's AEGIS_WEB_TOKEN"})
            status, answer = await view(request, **found)
            return _json(web, status, answer)

        app.page(path, name=view.__name__)(serve)
        return view

    return declare


def _json(web: Any, status: int, answer: Any) -> Any:
    if isinstance(answer, bytes):
        return web.bytes(answer, content_type="text/plain", status=status)
    body = msgspec.json.format(msgspec.json.encode(answer), indent=2)
    return web.bytes(body + b"\n", content_type=JSON, status=status)
