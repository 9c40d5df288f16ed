"""What all edits have in common."""

from collections.abc import Iterable
from dataclasses import dataclass
from operator import index
from typing import Any, TypeVar, Union

from gptoss_lab.config import ModelConfig
from gptoss_lab.edits.where import EVERYWHERE, Where
from gptoss_lab.edits.wording import counted, listed
from gptoss_lab.hooks import HookFunction

Edits = Union["Edit", Iterable["Edits"]]
"""An edit, or several, nested as they may come."""

Kind = TypeVar("Kind", bound="Edit")
Hooks = list[tuple[str, HookFunction]]


@dataclass(frozen=True, kw_only=True)
class Edit:
    """An intervention, as a value. `str(edit)` says what it does; `a + b` is both, in a tuple.

    Raises ValueError, when it is made, for what no model allows; `check` raises it for what this model does not.
    """

    layers: tuple[int, ...] | None = None
    """Which layers; None is every layer."""
    where: Where = EVERYWHERE
    """Which tokens."""

    def __post_init__(self) -> None:
        if self.layers is not None:
            whole_numbers("layer", self.layers)
        if not isinstance(self.where, Where):
            raise ValueError(f"where is a place as edits.at gives it; got {self.where!r}")

    def check(self, config: ModelConfig) -> None:
        """Raises ValueError, naming what was given and what is possible, for what a model does not have."""
        in_range("layer", self.layers, config.n_layers)
        self.where.check(config.n_ctx)

    def layers_of(self, config: ModelConfig) -> Iterable[int]:
        return range(config.n_layers) if self.layers is None else self.layers

    def __add__(self, other: Edits) -> tuple["Edit", ...]:
        return (self, *flat(other))

    def __radd__(self, other: Edits) -> tuple["Edit", ...]:
        return (*flat(other), self)

    @property
    def _of_layers(self) -> str:
        return f"of {counted('layer', self.layers)}"


def flat(edits: Any) -> tuple[Edit, ...]:
    """All edits within, in their order. Raises TypeError for anything else."""
    if isinstance(edits, Edit):
        return (edits,)
    if isinstance(edits, (str, bytes, dict)) or not isinstance(edits, Iterable):
        raise TypeError(f"an edit is expected, as edits.ablate_expert(expert=7, layer=3) makes one; got {edits!r}")
    return tuple(one for part in edits for one in flat(part))


def of_kind(edits: Iterable[Edit], *kinds: type[Kind]) -> list[Kind]:
    return [edit for edit in edits if isinstance(edit, kinds)]


def numbers_of(what: str, given: int | Iterable[int]) -> tuple[int, ...]:
    """One number or several as a tuple, in order, each once. Raises ValueError for none and for what is no number."""
    several = list(given) if isinstance(given, Iterable) else [given]
    try:
        numbers = {index(one) for one in several}
    except TypeError:
        numbers = set()
    if not numbers or any(isinstance(one, bool) for one in several):
        raise ValueError(f"{what} is a number, or several; got {given!r}")
    return tuple(sorted(numbers))


def optional_numbers(what: str, given: int | Iterable[int] | None) -> tuple[int, ...] | None:
    """As `numbers_of`; None, which stands for all of them, stays."""
    return None if given is None else numbers_of(what, given)


def whole_numbers(what: str, numbers: Any) -> None:
    """Raises ValueError for what is no tuple of numbers from 0."""
    if not (isinstance(numbers, tuple) and numbers and all(type(one) is int for one in numbers)):
        raise ValueError(f"{what} is a number, or several; got {numbers!r}")
    if min(numbers) < 0:
        raise ValueError(f"{what}s count from 0; got {min(numbers)}")


def in_range(what: str, numbers: Iterable[int] | None, n: int) -> None:
    """Raises ValueError for numbers that a model does not have."""
    if wrong := [number for number in numbers or () if number >= n]:
        raise ValueError(f"there is no {what} {listed(wrong)}; this model's {what}s run from 0 to {n - 1}")


def finite(what: str, value: Any) -> None:
    """Raises ValueError for what is no finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < float("inf"):
        raise ValueError(f"{what} is a finite number; got {value!r}")
