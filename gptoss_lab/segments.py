"""Steps of a thought: the sentences and lines that a reply's messages are made of, as stretches of tokens.

    steps = segments(trace.texts, trace.spans)         # or by="line", by="message"
    steps[0].text                                      # "Units: 8 + 7 = 15, write 5, carry 1.\n"

Only contents count: headers and control tokens belong to no step. A sentence ends with its line, if not before, so that
the lines of a column sum and of a machine's run are steps of their own, whether they end in a full stop or not. A
token is never split: one that holds the end of a step and the beginning of the next goes with the first.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from gptoss_lab.harmony import Span

Unit = Literal["sentence", "line", "message"]


@dataclass(frozen=True, slots=True)
class Segment:
    """A step of a thought: the tokens from `start` to before `stop`."""

    number: int
    """Steps count from 1, so that 0 can stand for what comes before any."""
    start: int
    stop: int
    text: str
    """With the blanks and line ends that belong to it."""
    message: int
    """As in its tokens' spans."""
    channel: str | None
    recipient: str | None = None

    def __len__(self) -> int:
        """Tokens."""
        return self.stop - self.start


def segments(texts: Sequence[str], spans: Sequence[Span], by: Unit = "sentence", begin: int = 0) -> list[Segment]:
    """The steps of what the assistant says, in order.

    texts, spans: of every token. begin: tokens before this, the prompt's, belong to no step.

    Raises ValueError for texts and spans of different number, and for an unknown unit.
    """
    if len(texts) != len(spans):
        raise ValueError(f"one span a token: got {len(texts)} texts and {len(spans)} spans")
    if by not in _ENDS:
        raise ValueError(f"by is one of {', '.join(_ENDS)}; got {by!r}")
    found: list[Segment] = []
    for span, first, last in _contents(spans, begin):
        for start, stop in _parts(texts[first:last], by):
            text = "".join(texts[first + start : first + stop])
            found.append(
                Segment(len(found) + 1, first + start, first + stop, text, span.message, span.channel, span.recipient)
            )
    return found


def step_of(steps: Sequence[Segment], position: int) -> Segment | None:
    """The step to which a token belongs; None for headers, control tokens and the prompt."""
    return next((step for step in steps if step.start <= position < step.stop), None)


def ends_step(text: str) -> bool:
    """Whether a text ends where a sentence does."""
    return bool(text.strip()) and _ends(text, "sentence")[-1:] == [len(text)]


_CLOSERS = r"[\"'”’»)\]*_`]*"
_LINE_ENDS = r"(?:[^\S\n]*\n)"
_ENDS = {
    "sentence": re.compile(
        rf"(?:[.!?…]+{_CLOSERS}(?=\s|\Z)|[。！？]+{_CLOSERS}){_LINE_ENDS}*|{_LINE_ENDS}+"  # or the line's end alone
    ),
    "line": re.compile(rf"{_LINE_ENDS}+"),
    "message": re.compile(r"\Z"),
}
_NO_END = re.compile(
    r"(?:^|\n)[^\S\n]*(?:\d{1,3}|[a-zA-Z])\Z|\b(?:e\.g|i\.e|cf|vs|Mr|Mrs|Ms|Dr|Prof|St|approx|Fig|Eq)\Z"
)
"""What stands before a full stop that ends no sentence: the number of an item in a list, or an abbreviation."""


def _contents(spans: Sequence[Span], begin: int) -> Iterator[tuple[Span, int, int]]:
    """Each stretch of content that the assistant wrote: its span, its first token and the one after its last."""
    numbered = enumerate(spans[begin:], start=begin)
    for span, group in groupby(numbered, key=lambda item: item[1]):
        positions = [position for position, _ in group]
        if span.role == "assistant" and span.section == "content":
            yield span, positions[0], positions[-1] + 1


def _parts(texts: Sequence[str], by: Unit) -> Iterator[tuple[int, int]]:
    """Where each step starts and stops among the tokens of one message's content."""
    whole = "".join(texts)
    ends = [end for end in _ends(whole, by) if whole[end:].strip()]  # a rest of blanks goes with what is before it
    start, offset = 0, 0
    for number, text in enumerate(texts):
        if ends and offset >= ends[0]:
            if "".join(texts[start:number]).strip():
                yield start, number
                start = number
            while ends and offset >= ends[0]:
                ends.pop(0)
        offset += len(text)
    yield start, len(texts)


def _ends(text: str, by: Unit) -> list[int]:
    """The offsets at which steps end."""
    return [
        match.end()
        for match in _ENDS[by].finditer(text)
        if not (match[0] == "." and _NO_END.search(text, max(0, match.start() - 8), match.start()))
    ]
