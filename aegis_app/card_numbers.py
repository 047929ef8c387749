"""Card numbers become tokens at the edge, and go no further."""

import hmac
import re
from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import Final, Self

from aegis_app.settings import Settings, SettingsError

LEAST_SECRET: Final = 32
_KEY: Final = re.compile(rf"([A-Za-z0-9]{{1,16}}):(\S{{{LEAST_SECRET},}})")


class CardNumberError(ValueError):
    """A card number cannot be taken; the message does not hold it."""


class CardNumbers:
    """Makes tokens of card numbers: HMAC-SHA256 under a key of ours, which the token names. Without the key nobody finds its number."""

    def __init__(self, keys: dict[str, bytes]) -> None:
        """Secrets by id; the first makes tokens where none is named."""
        self._keys = keys

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Those of `AEGIS_CARD_KEY`, as `k2:SECRET,k1:SECRET`. Raises `SettingsError`."""
        given = [] if settings.card_key is None else settings.card_key.split(",")
        found = [_KEY.fullmatch(each.strip()) for each in given]
        keys = {key[1]: key[2].encode() for key in found if key is not None}
        if len(keys) != len(given):
            raise SettingsError(
                f"AEGIS_CARD_KEY=(not shown): it is ID:SECRET, several separated by commas; each ID once, of up to 16 letters and digits, "
                f"each secret of at least {LEAST_SECRET} characters"
            )
        return cls(keys)

    def token(self, number: str, key: str | None = None) -> str:
        """The card_id of `number` (12 to 19 digits; spaces and hyphens do not matter): at most 60 characters. Raises `CardNumberError`."""
        if not self._keys:
            raise CardNumberError("card numbers are not taken here: send a token as card_id, or set AEGIS_CARD_KEY")
        name = next(iter(self._keys)) if key is None else key
        secret = self._keys.get(name)
        if secret is None:
            raise CardNumberError("there is no card key of this id")
        digits = re.sub("[ -]", "", number)
        if not (digits.isascii() and digits.isdigit() and 12 <= len(digits) <= 19):
            raise CardNumberError("it is not 12 to 19 digits")
        return f"{name}.{urlsafe_b64encode(hmac.digest(secret, digits.encode(), sha256)).decode().rstrip('=')}"
