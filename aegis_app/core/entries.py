"""What is wrong with a TOML file that people write, and in which line."""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec

Words = Mapping[str, Iterable[str]]
"""What an entry may say, by its name."""


def located(
    text: str, name: str, error: msgspec.ValidationError, above: list[str] | None = None, words: Words = MappingProxyType({})
) -> str:
    """The sentence about `error`, with line and entry; `above` is the path of the table that was converted."""
    reason, _, place = str(error).partition(" - at `")
    within = re.sub(r"\[[^\]]*\]", "", place.rstrip("`"))
    path = (above or []) + [part for part in within.split(".") if part not in {"$", ""}]
    unknown = re.search(r"unknown field `(\w+)`", reason)
    if unknown:
        path = [*path, unknown[1]]
    reason = with_words(reason, path[-1] if path else "", words)
    return f"{name}, line {line(text, path)}: {'.'.join(path) or 'file'}: {reason}"


def with_words(reason: str, entry: str, words: Words) -> str:
    """What msgspec says of an entry, with the words that it may have where it has another."""
    if reason.startswith("Invalid enum value") and entry in words:
        return f"{reason}, it is one of {', '.join(words[entry])}"
    return reason


def line(text: str, path: list[str]) -> int:
    """The line where the entry at `path` stands; that of its table where it is not written out."""
    table: list[str] = []
    best = 1
    for number, written in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*([^\]]+?)\s*\]", written):
            table = [part.strip(" \"'") for part in header[1].split(".")]
            if table == path[: len(table)] or (path and best == 1 and table[: len(path)] == path):
                best = number
        elif (entry := re.match(r"\s*[\"']?([\w-]+)[\"']?\s*=", written)) and [*table, entry[1]] == path[: len(table) + 1]:
            best = number
    return best
