"""Mistakes to put into a step: another digit, the opposite sign, another name."""

import re
from collections.abc import Callable
from random import Random
from typing import Literal

Kind = Literal["digit", "sign", "name"]

OPPOSITES = {"+": "-", "-": "+", "−": "+", "*": "/", "/": "*", "×": "÷", "÷": "×", "<": ">", ">": "<"}
NAMES = ("Alice", "Boris", "Clara", "Dmitri", "Esther", "Farid", "Greta", "Hiro")


def corrupt(text: str, kind: Kind | None = None, seed: int = 0) -> str | None:
    """The text with one mistake in it, drawn by the seed; None where there is nothing to get wrong.

    kind: None takes the first that there is of a digit, a sign and a name. Raises ValueError for an unknown kind.
    """
    if kind is not None and kind not in _KINDS:
        raise ValueError(f"kind is one of {', '.join(_KINDS)}; got {kind!r}")
    rng = Random(seed)
    kinds = _KINDS if kind is None else (kind,)
    return next((wrong for name in kinds if (wrong := _KINDS[name](text, rng)) is not None), None)


def _other_digit(text: str, rng: Random) -> str | None:
    return _replaced(text, rng, r"\d", lambda digit: rng.choice("0123456789".replace(digit, "")))


def _opposite_sign(text: str, rng: Random) -> str | None:
    # Between blanks or operands: a hyphen within a word is no sign.
    return _replaced(text, rng, r"(?<=[\s\d)])[+\-−*/×÷<>](?=[\s\d(])", OPPOSITES.__getitem__)


def _other_name(text: str, rng: Random) -> str | None:
    # A capital at the beginning of a sentence may be anybody's.
    return _replaced(
        text,
        rng,
        r"(?<=[a-z,;:] )[A-Z][a-z]+\b",
        lambda name: rng.choice([other for other in NAMES if other != name]),
    )


_KINDS: dict[str, Callable[[str, Random], str | None]] = {
    "digit": _other_digit,
    "sign": _opposite_sign,
    "name": _other_name,
}


def _replaced(text: str, rng: Random, pattern: str, other: Callable[[str], str]) -> str | None:
    places = list(re.finditer(pattern, text))
    if not places:
        return None
    place = rng.choice(places)
    return f"{text[: place.start()]}{other(place[0])}{text[place.end() :]}"
