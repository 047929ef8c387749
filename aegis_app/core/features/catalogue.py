"""What is said of each feature, and how groups of them are found when first asked for."""

from collections.abc import Callable
from typing import Any, Final, Generic, Self, TypeVar, overload

from msgspec import Meta

T = TypeVar("T")


def of(unit: str, meaning: str, null: str = "never", *, labels: bool = False) -> Meta:
    """A feature's unit, what it means, when it is null, and whether labels flow into it."""
    return Meta(description=meaning, extra_json_schema={"unit": unit, "null": null, "labels": labels})


NO_RATE: Final = "the payment's currency has no rate"
NO_HABIT: Final = "no payment was allowed yet"
NOT_GIVEN: Final = "the payment does not say, or none was ever known"


class once(Generic[T]):  # used as a decorator, like property
    """An attribute that is found when first asked for, then kept. `functools.cached_property` takes a lock, until Python 3.12."""

    def __init__(self, find: Callable[[Any], T]) -> None:
        self._find = find
        self.kind: type[T] = find.__annotations__["return"]

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, holder: None, owner: type) -> Self: ...
    @overload
    def __get__(self, holder: object, owner: type) -> T: ...
    def __get__(self, holder: object | None, owner: type) -> Self | T:
        if holder is None:
            return self
        found = holder.__dict__[self._name] = self._find(holder)
        return found
