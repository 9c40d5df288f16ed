"""What register machines and cups have in common: thinking that goes step by step, each from the state before.

A step is one line of analysis: the instruction that is followed, how it works out with what is held, whether its
condition holds if it has one, and the whole state after it:

    2: z += y, 6 + 5 = 1; x 8 y 5 z 1
    3: if z < 4 go to 1, 1 < 4, yes; x 8 y 5 z 1

Whoever has such a line and the question can execute on from there, whatever the state in it: so can the model's
thinking be held to what it says.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from random import Random

STEPS = range(8, 21)
"""How many steps a problem takes, the stop not counted."""

PATIENCE = 40
"""Steps after which an execution that goes on from an altered state is taken to go on for ever."""


@dataclass(frozen=True)
class Step:
    label: str
    """Of the instruction in the question."""
    instruction: str
    holds: bool | None
    """Whether the instruction's condition holds; None where it has none."""
    state: str
    working: str | None = None
    """The instruction with what the registers hold in the place of their names; None where there is nothing to say."""

    def __str__(self) -> str:
        working = "" if self.working is None else f", {self.working}"
        verdict = "" if self.holds is None else ", yes" if self.holds else ", no"
        return f"{self.label}: {self.instruction}{working}{verdict}; {self.state}"

    @property
    def stops(self) -> bool:
        return self.instruction == "stop"


@dataclass(frozen=True)
class Serial:
    """How the problems of a serial domain are executed."""

    steps: Callable[[str, Step | None], Iterator[Step]]
    """The steps that a question asks for, from the first or from after a given one, which may hold any state. The last
    one stops; there may be no last one."""
    digits: str
    """What a state may hold in each place."""


def read_step(line: str) -> Step | None:
    """The step that a line of analysis tells; None where it is none."""
    match = re.fullmatch(r"(\w): (.+?)(?:, (\d[^,;]*))?(?:, (yes|no))?; ([^;]+)", line)
    return Step(match[1], match[2], {"yes": True, "no": False}.get(match[4]), match[5], match[3]) if match else None


def altered(rng: Random, step: Step, digits: str) -> Step:
    """The step with one digit of its state changed to another of `digits`."""
    place = rng.choice([match.start() for match in re.finditer(r"\d", step.state)])
    other = rng.choice(digits.replace(step.state[place], ""))
    return replace(step, state=step.state[:place] + other + step.state[place + 1 :])


def answer_after(domain: Serial, question: str, step: Step | None = None) -> str | None:
    """What comes of executing on from a step; None if it does not stop within `PATIENCE` steps."""
    for following in islice(domain.steps(question, step), PATIENCE):
        if following.stops:
            return following.state[-1]
    return None
