"""How the text of a variable is read, and the bounds that it says of itself. Knows no variable."""

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isfinite
from typing import Generic, TypeVar

from chassis import urls

Read_co = TypeVar("Read_co", covariant=True)
Text = TypeVar("Text", bound=str)
_FLAGS = {"true": True, "1": True, "yes": True, "on": True} | {
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}


@dataclass(frozen=True, slots=True)
class Kind(Generic[Read_co]):
    """How the text of a variable is read: `read` raises ValueError with the end of a sentence.

    `allowed` are the bounds in words, in Markdown. A `secret` is never shown in an error.
    """

    read: Callable[[str], Read_co]
    allowed: str = ""
    secret: bool = False


def url(*schemes: str) -> Kind[str]:
    return Kind(lambda text: urls.checked(text, schemes), secret=True)


def whole(least: int, most: int | None = None) -> Kind[int]:
    allowed = f"at least {least}" + ("" if most is None else f", at most {most}")

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least or (most is not None and number > most):
            raise ValueError(f"it must be a whole number, {allowed}")
        return number

    return Kind(read, allowed)


def number(*, least: float | None = None, above: float = -inf, most: float = inf) -> Kind[float]:
    allowed = f"above {above:g}" if least is None else f"at least {least:g}"
    allowed += "" if most == inf else f", at most {most:g}"

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = inf
        low = number <= above if least is None else number < least
        if not isfinite(number) or low or number > most:
            raise ValueError(f"it must be a number, {allowed}")
        return number

    return Kind(read, allowed)


def flag() -> Kind[bool]:
    def read(text: str) -> bool:
        try:
            return _FLAGS[text.lower()]
        except KeyError:
            raise ValueError("it must be true or false") from None

    return Kind(read)


def one_of(*values: Text) -> Kind[Text]:
    def read(text: str) -> Text:
        for value in values:
            if value == text:
                return value
        raise ValueError(f"it must be one of {', '.join(values)}")

    return Kind(read, ", ".join(f"`{value}`" for value in values))
