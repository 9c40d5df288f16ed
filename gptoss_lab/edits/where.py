"""Where an edit acts: on which tokens of a sequence."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from itertools import product
from typing import Any, TypedDict, get_args

import numpy as np
from numpy.typing import NDArray

from gptoss_lab.edits.wording import listed
from gptoss_lab.harmony import Section, Span

Positions = int | slice | range | Iterable[int] | NDArray[Any]
"""Positions in a sequence, from 0: a number, a slice or range, several numbers, or a boolean for every position."""

Stretch = tuple[int, int | None, int]
"""Start, stop (None: without end) and step, as in a slice."""

CHANNELS = ("analysis", "commentary", "final")


class Conditions(TypedDict, total=False):
    """The conditions of `at`, as every edit takes them."""

    positions: Positions | None
    channel: str | None
    role: str | None
    section: Section | None
    message: int | None


def at(
    positions: Positions | None = None,
    *,
    channel: str | None = None,
    role: str | None = None,
    section: Section | None = None,
    message: int | None = None,
) -> "Where":
    """The tokens that meet all of the conditions given.

    positions: absolute, from 0; a slice may be open at its end. What counts from the end would move while generating,
        so negative numbers are refused.
    channel: analysis, commentary or final. role: system, developer, user, assistant or a tool's name. Both hold from
        the header's end (<|message|>) to the message's (<|end|>, <|return|> or <|call|>): until its header has ended,
        a message's channel is not known, neither to the model nor here.
    section: header, content or end.
    message: by its number among the messages in the tokens, from 0 (analysis that a prompt leaves out does not count).

    Raises ValueError for what no token can meet.
    """
    return Where(None if positions is None else _stretches(positions), channel, role, section, message)


@dataclass(frozen=True)
class Where:
    """Which tokens: those that meet all conditions that are not None. Made by `at`."""

    positions: tuple[Stretch, ...] | None = None
    channel: str | None = None
    role: str | None = None
    section: Section | None = None
    message: int | None = None

    def __post_init__(self) -> None:
        for stretch in self.positions or ():
            _check_stretch(stretch)
        if self.positions == ():
            raise ValueError("positions is empty: the edit would act nowhere; leave it out to act everywhere")
        for name, value in (("channel", self.channel), ("role", self.role)):
            if not (value is None or isinstance(value, str)):
                raise ValueError(f"{name} is text; got {value!r}")
        _check_one_of("channel", self.channel, CHANNELS)
        _check_one_of("section", self.section, get_args(Section))
        if self.message is not None and (type(self.message) is not int or self.message < 0):
            raise ValueError(f"message is the number of a message, from 0; got {self.message!r}")

    @property
    def needs_text(self) -> bool:
        """Whether it takes a vocabulary to tell."""
        return any(value is not None for value in (self.channel, self.role, self.section, self.message))

    def contains(self, positions: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these positions meet the condition on positions."""
        if self.positions is None:
            return np.ones(positions.shape, dtype=np.bool_)
        inside = np.zeros(positions.shape, dtype=np.bool_)
        for start, stop, step in self.positions:
            inside |= (
                (positions >= start)
                & (positions < np.inf if stop is None else positions < stop)
                & ((positions - start) % step == 0)
            )
        return inside

    def fits(self, span: Span) -> bool:
        """Whether a token of this span meets the conditions on text."""
        return (
            (self.channel is None or span.channel == self.channel)
            and (self.role is None or span.role == self.role)
            and (self.section is None or span.section == self.section)
            and (self.message is None or span.message == self.message)
        )

    def numbers(self) -> NDArray[np.int64]:
        """The positions, ascending, [pos]. Raises ValueError where they have no end."""
        if self.positions is None or any(stop is None for _, stop, _ in self.positions):
            raise ValueError(f"positions with an end are needed here; got {self}")
        return np.unique(np.concatenate([np.arange(*stretch) for stretch in self.positions]))

    def check(self, n: int, of: str = "this model's context") -> None:
        """Raises ValueError for positions from n on."""
        for start, stop, _ in self.positions or ():
            last = start if stop is None else stop - 1
            if last >= n:
                raise ValueError(f"the positions of {of} run from 0 to {n - 1}; got {last}")

    def __str__(self) -> str:
        """As a thing: "the analysis channel, positions 3 to 7"; "everywhere" without conditions."""
        return ", ".join(noun for _, noun in self._words()) or "everywhere"

    @property
    def adverb(self) -> str:
        """As the end of a sentence: " on the analysis channel, at positions 3 to 7"; nothing without conditions."""
        words = ", ".join(f"{preposition} {noun}" for preposition, noun in self._words())
        return f" {words}" if words else ""

    def to_json(self) -> dict[str, Any]:
        """The conditions that there are, as plain JSON."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in given.items() if value is not None}

    @classmethod
    def from_json(cls, data: Any) -> "Where":
        """What `to_json` gave. Raises ValueError for anything else."""
        known = {field.name for field in fields(cls)}
        if not isinstance(data, dict) or not data.keys() <= known:
            raise ValueError(f"a place has no more than {', '.join(sorted(known))}; got {data!r}")
        stretches = data.get("positions")
        if stretches is not None:
            if not isinstance(stretches, list):
                raise ValueError(f"positions are a list of [start, stop, step]; got {stretches!r}")
            data = data | {"positions": tuple(tuple(one) if isinstance(one, list) else one for one in stretches)}
        return cls(**data)

    def _words(self) -> Iterator[tuple[str, str]]:
        """Each condition with its preposition."""
        if self.channel is not None:
            yield "on", f"the {self.channel} channel"
        if self.role is not None:
            yield "in", f"what the {self.role} says"
        if self.message is not None:
            yield "in", f"message {self.message}"
        if self.section is not None:
            yield "in", {"header": "headers", "content": "contents", "end": "end tokens"}[self.section]
        if self.positions is not None:
            yield "at", _position_words(self.positions)


def combinations(places: Sequence[Where], n_ctx: int) -> set[tuple[bool, ...]]:
    """Which of these places one and the same token can be in: every combination that is possible, a boolean a place.

    Every value that is named somewhere is tried, and one that is named nowhere.
    """
    telling = _telling_positions(places, n_ctx)
    inside = np.unique(np.stack([place.contains(telling) for place in places]), axis=1).T
    spans = [
        Span(message, role, channel, None, section)
        for message, role, channel, section in product(
            {-1} | {place.message for place in places if place.message is not None},
            {""} | {place.role for place in places if place.role is not None},
            {None} | {place.channel for place in places},
            get_args(Section),
        )
    ]
    return {
        tuple(bool(here) and place.fits(span) for here, place in zip(column, places, strict=True))
        for column in inside
        for span in spans
    }


def _telling_positions(places: Sequence[Where], n_ctx: int) -> NDArray[np.int64]:
    """Positions among which there is one for every way in which those of the places can coincide.

    Between one end of a stretch and the next, they coincide in a pattern that repeats.
    """
    stretches = [stretch for place in places for stretch in place.positions or ()]
    ends = np.array([0, *(end for start, stop, _ in stretches for end in (start, stop) if end is not None)])
    period = min(math.lcm(*(step for _, _, step in stretches)), n_ctx)
    telling = np.unique(ends[:, None] + np.arange(period))
    return telling[telling < n_ctx]


def _stretches(positions: Positions) -> tuple[Stretch, ...]:
    if isinstance(positions, slice):
        start, step = positions.start, positions.step
        return ((0 if start is None else start, positions.stop, 1 if step is None else step),)
    if isinstance(positions, range) and positions.step > 0:
        return ((positions.start, positions.stop, positions.step),) if positions else ()
    if isinstance(positions, (int, np.integer)) and not isinstance(positions, bool):
        return ((int(positions), int(positions) + 1, 1),)
    is_array = hasattr(positions, "__array__")
    numbers = np.asarray(positions if is_array else list(_iterable(positions)))
    if is_array and numbers.dtype == np.bool_ and numbers.ndim == 1:
        numbers = np.flatnonzero(numbers)
    if not numbers.size:
        return ()
    if numbers.dtype.kind not in "iu" or numbers.ndim != 1:
        raise ValueError(f"positions are whole numbers; got {positions!r}")
    numbers = np.unique(numbers)
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) != 1) + 1)
    return tuple((int(run[0]), int(run[-1]) + 1, 1) for run in runs)


def _iterable(positions: Any) -> Iterable[Any]:
    if isinstance(positions, (str, bytes)) or not isinstance(positions, Iterable):
        raise ValueError(f"positions are a number, a range, a slice or several numbers; got {positions!r}")
    return positions


def _check_stretch(stretch: Any) -> None:
    if not (isinstance(stretch, tuple) and len(stretch) == 3):
        raise ValueError(f"positions are stretches of start, stop and step; got {stretch!r}")
    start, stop, step = stretch
    if type(start) is not int or type(step) is not int or not (stop is None or type(stop) is int):
        raise ValueError(f"positions are whole numbers; got {stretch!r}")
    if start < 0 or (stop is not None and stop < 0):
        raise ValueError(
            f"positions count from 0, the first token; got {start if start < 0 else stop}. What is last is not known "
            "while generating"
        )
    if step < 1 or (stop is not None and stop <= start):
        raise ValueError(f"positions must run forwards and not be empty; got {start} to {stop} in steps of {step}")


def _check_one_of(name: str, value: str | None, choices: Sequence[str]) -> None:
    if value is not None and value not in choices:
        near = get_close_matches(value, choices, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{name} is one of {', '.join(choices)}; got {value!r}{hint}")


def _position_words(stretches: tuple[Stretch, ...]) -> str:
    def words(start: int, stop: int | None, step: int) -> str:
        every = f" in steps of {step}" if step > 1 else ""
        if stop is None:
            return f"{start} on{every}"
        return str(start) if stop == start + 1 else f"{start} to {stop - 1}{every}"

    one = len(stretches) == 1 and stretches[0][1] == stretches[0][0] + 1
    return f"position{'' if one else 's'} {listed([words(*stretch) for stretch in stretches])}"


EVERYWHERE = Where()
