"""A problem: a question, how to think about it at each effort, and its answer."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal

Effort = Literal["low", "medium", "high"]


@dataclass(frozen=True)
class Problem:
    """One question of a domain.

    `identity` is the same for all phrasings of one question: the held-out split goes by it. `size` counts what makes
    the question hard (digits of the longer number), 0 where nothing does. `thoughts` has what goes into the analysis
    channel at medium and high effort; at low effort the answer comes at once.
    """

    domain: str
    size: int
    identity: str
    question: str
    thoughts: dict[Effort, str]
    answer: str


Domain = Callable[[Random], Problem]
