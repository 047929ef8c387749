"""Fields that a payment does not have. They are taken all the same, since a sender may be ahead of us, but told: it may have misspelt."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

import msgspec

from aegis_app.core.intake import hide_text
from aegis_app.core.payment import Transaction

FIELDS: Final = frozenset(Transaction.__struct_fields__)
_LONGEST: Final = 64

# Half as long as reading the payment, because no value is looked at.
_check: Final = msgspec.json.Decoder(
    msgspec.defstruct("_Known", [(name, msgspec.Raw, None) for name in FIELDS], forbid_unknown_fields=True, gc=False)
).decode
_names: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def unknown_fields(value: bytes) -> list[str]:
    """Names in a payment's JSON that are none of its fields; of what is no JSON object, none."""
    try:
        _check(value)
        return []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return [name for name in _names(value) if name not in FIELDS]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []


def hinted(name: str, known: Iterable[str] = FIELDS) -> str:
    """An unknown name for people, with the field that is most like it: `chanel (is it channel?)`."""
    shown = hide_text(name[:_LONGEST])
    near = get_close_matches(name.lower(), known, 1)
    return (shown if shown.isprintable() else repr(shown)) + (f" (is it {near[0]}?)" if near else "")
