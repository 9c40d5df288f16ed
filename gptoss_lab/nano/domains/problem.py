"""A problem: a question, what it needs to be asked, how to think about it at each effort, and its answer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

Effort = Literal["low", "medium", "high"]
BuiltInTool = Literal["browser", "python"]


@dataclass(frozen=True)
class Call:
    """What is said to a tool, and what the tool says to it."""

    tool: str
    """python, browser.search, functions.NAME."""
    content: str
    """Code, or arguments as JSON."""
    result: str
    thoughts: Mapping[Effort, str] = field(default_factory=dict)
    """What is thought before the call."""


@dataclass(frozen=True)
class Problem:
    """One question of a domain.

    `identity` is the same for all phrasings of one question: the held-out split goes by it. `size` counts what makes
    the question hard (digits of the longer number, steps), 0 where nothing does. `thoughts` has what goes into the
    analysis channel at medium and high effort; at low effort the answer comes at once.

    The rest is empty for most: what the developer message says and declares, the tools that the system message
    describes, and the calls that come before the answer. The thoughts are then those after the last result.
    """

    domain: str
    size: int
    identity: str
    question: str
    thoughts: Mapping[Effort, str]
    answer: str
    instructions: str | None = None
    functions: tuple[Mapping[str, Any], ...] = ()
    tools: tuple[BuiltInTool, ...] = ()
    calls: tuple[Call, ...] = ()


Domain = Callable[[Random], Problem]
