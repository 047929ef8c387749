"""The routes: each reads, asks the desk, and answers."""

from typing import Any

import msgspec
from fastapi import Request, Response

from aegis_app.gateway.desk import Desk
from aegis_app.gateway.schema import JSON


def desk(request: Request) -> Desk:
    found: Desk = request.app.state.desk
    return found


def json(answer: Any) -> Response:
    return Response(msgspec.json.encode(answer), media_type=JSON)
