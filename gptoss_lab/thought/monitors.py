"""Monitors: they read along while a model thinks, and may stop it.

A monitor is any function of what is to be seen at a token (`Seen`) that gives back words where something is amiss, and
None where nothing is. `pattern`, `probe_above` and `verdict` make three kinds; one's own are as good.

    thoughts.resume(monitors=[monitors.pattern(r"\\bwait\\b"), monitors.probe_above(probe, 0.9)])
    thoughts.alarms                       # what they said, and where; resume() goes on
"""

import contextlib
import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gptoss_lab.analyses.probing import Probe
from gptoss_lab.harmony import Message, Span, StreamParser
from gptoss_lab.hooks import HookPoint
from gptoss_lab.model import never
from gptoss_lab.segments import ends_step
from gptoss_lab.session import Model
from gptoss_lab.thought.growing import Growth, grow
from gptoss_lab.thought.tree import Token


@dataclass(frozen=True)
class Seen:
    """What a monitor sees when a new token has come."""

    position: int
    token: Token
    span: Span
    message: Message
    """The message that the token belongs to, as far as it has come."""
    states: dict[str, NDArray[np.float64]]
    """By hook point, where a monitor asks for one (`monitor.point`): the residual stream [d_model] at the token before,
    the last that has been through the model."""


class Monitor(Protocol):
    """Says what is amiss, or None. With a `point`, the states of that hook point are there to be seen."""

    def __call__(self, seen: Seen) -> str | None: ...


@dataclass(frozen=True)
class Alarm:
    """What a monitor said."""

    branch: int
    position: int
    monitor: str
    words: str


def pattern(expression: str, channel: str | None = None) -> Monitor:
    """Speaks up when a regular expression finds something that ends with the newest token.

    channel: in this one alone. Upper and lower case are the same. Raises re.error for no expression.
    """
    sought = re.compile(expression, re.IGNORECASE)

    def found(seen: Seen) -> str | None:
        if seen.span.section != "content" or channel not in (None, seen.message.channel):
            return None
        text = seen.message.content
        new = len(text) - len(seen.token.text)
        hit = next((match for match in sought.finditer(text) if match.end() > new and match[0]), None)
        return None if hit is None else f"{hit[0]!r} matches {expression!r}"

    return _named(found, f"pattern {expression!r}")


def probe_above(probe: Probe, probability: float = 0.9, name: str = "probe") -> Monitor:
    """Speaks up where a probe gives a state more than this probability. Raises ValueError for a probe of no point."""
    if not probe.point:
        raise ValueError("the probe does not say which states it reads: fit it with point=...")

    def found(seen: Seen) -> str | None:
        if probe.point not in seen.states:
            return None
        chance = float(probe(seen.states[probe.point]))
        return f"{chance:.0%} at the token before" if chance > probability else None

    return _named(found, name, probe.point)


def verdict(model: Model, question: str, amiss: str = r"^\W*yes\b", max_new_tokens: int = 256) -> Monitor:
    """Asks a model, which may be another, after each sentence.

    question: put before what has been said so far in the message. amiss: a regular expression of answers that mean so.
    """
    sought = re.compile(amiss, re.IGNORECASE)

    def found(seen: Seen) -> str | None:
        if seen.span.section != "content" or not ends_step(seen.message.content):
            return None
        asked = f"{question}\n\n{seen.message.content}"
        answer = model.chat(asked, "low", temperature=0.0, max_new_tokens=max_new_tokens, display=False).text
        return f"asked {question!r}, the model says {answer!r}" if sought.search(answer) else None

    return _named(found, "verdict")


def watch(
    model: Model,
    growth: Growth,
    monitors: Sequence[Monitor],
    alarms: list[Alarm],
    should_stop: Callable[[], bool] = never,
) -> Generator[Token, None, None]:
    """As `grow`, with monitors reading along: what they say goes to `alarms`, and ends it after that token."""
    states: dict[str, NDArray[np.float64]] = {}

    def keep(tensor: Tensor, hook: HookPoint) -> None:
        states[hook.name] = tensor[0, -1].detach().double().cpu().numpy()

    points = sorted({point for monitor in monitors if (point := getattr(monitor, "point", None))})
    parser = StreamParser(model.tokenizer, messages_so_far=len(growth.asked))
    for token in growth.tokens[len(growth.prompt_spans) :]:
        parser.push(token.id)
    with contextlib.closing(grow(model, growth, should_stop, [(points, keep)] if points else [])) as tokens:
        for token in tokens:
            span, position = parser.push(token.id), len(growth.tokens) - 1
            seen = Seen(position, token, span, parser.messages[-1], dict(states))
            said = [(monitor, words) for monitor in monitors if (words := monitor(seen)) is not None]
            alarms += [Alarm(growth.number, position, name_of(monitor), words) for monitor, words in said]
            yield token
            if said:
                return


def name_of(monitor: Monitor) -> str:
    return getattr(monitor, "__name__", type(monitor).__name__)


def _named(function: Callable[[Seen], str | None], name: str, point: str | None = None) -> Monitor:
    function.__name__ = name
    function.point = point  # type: ignore[attr-defined]
    return cast(Monitor, function)
