"""What nobody knows is refused, never ignored: without the filter that was misspelt, a question is answered with everything."""

from collections import Counter
from collections.abc import Iterator

import msgspec
from fastapi import Request
from msgspec import Struct

from aegis_app.core.intake import hide_text
from aegis_app.gateway.problems import Problem


def check_query(request: Request, *known: str) -> None:
    """Raise `Problem` where the query has a parameter that is none of `known`, or has one twice."""
    if request.scope["query_string"]:
        _check("parameter", (name for name, _ in request.query_params.multi_items()), known)


def known_query(request: Request) -> None:
    """What a route of FastAPI's depends on: its query has the parameters that it declares, and no others."""
    check_query(request, *(field.alias for field in request.scope["route"].dependant.query_params))


def check_fields(value: bytes, wanted: type[Struct], *more: str) -> None:
    """Raise `Problem` where a JSON object has a field that is none of `wanted`'s nor of `more`. What is no object, its reader refuses."""
    try:
        names = msgspec.json.decode(value, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return
    _check("field", iter(names), (*wanted.__struct_encode_fields__, *more))


def _check(what: str, given: Iterator[str], known: tuple[str, ...]) -> None:
    for name, times in Counter(given).items():
        if name not in known:
            has = f"it knows {', '.join(known)}" if known else "it has none"
            raise Problem(422, f"there is no such {what} here; {has}", hide_text(name))
        if times > 1:
            raise Problem(422, "it stands here more than once", name)
