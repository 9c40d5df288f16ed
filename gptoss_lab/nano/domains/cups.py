"""Five cups and a ball: cups change places, sometimes only if the ball is where it should be for that.

    Five cups stand in a row. The ball is under 3.
    a: swap 1 and 4
    b: if under 3, swap 3 and 5
    c: if left of 2, swap 1 and 2
    ...
    i: stop
    Where is the ball?

At high effort there is a line for every step, 8 to 20 of them, and one for the stop:

    a: swap 1 and 4; ball 3
    b: if under 3, swap 3 and 5, yes; ball 5
    c: if left of 2, swap 1 and 2, no; ball 5
    ...
    i: stop; ball 2

At medium effort there are the places alone, "a 3, b 5, c 5, ...".
"""

import re
from collections.abc import Iterator
from random import Random
from string import ascii_lowercase
from typing import NamedTuple

from gptoss_lab.nano.domains.problem import Problem
from gptoss_lab.nano.domains.serial import STEPS, Serial, Step

QUESTIONS = (
    "Five cups stand in a row. The ball is under {start}.\n{moves}\nWhere is the ball?",
    "There are five cups in a row. The ball is under {start}.\n{moves}\nWhere is the ball now?",
    "Five cups, and a ball under one. The ball is under {start}.\n{moves}\nWhich cup is the ball under?",
    "Where does the ball end, under which of five cups? The ball is under {start}.\n{moves}",
    "Follow the ball under five cups. The ball is under {start}.\n{moves}",
    "The ball is under {start}.\n{moves}\nUnder which of the five cups is the ball?",
)

CUPS = range(1, 6)


class Move(NamedTuple):
    condition: str | None
    """under, left of or right of."""
    place: int
    swapped: tuple[int, int]

    def __str__(self) -> str:
        swap = "swap {} and {}".format(*self.swapped)
        return f"if {self.condition} {self.place}, {swap}" if self.condition else swap

    def holds(self, ball: int) -> bool | None:
        """Whether the cups are swapped; None if they are in any case."""
        match self.condition:
            case "under":
                return ball == self.place
            case "left of":
                return ball < self.place
            case "right of":
                return ball > self.place
        return None

    def after(self, ball: int) -> int:
        """Where the ball goes."""
        first, second = self.swapped
        return ball if self.holds(ball) is False else {first: second, second: first}.get(ball, ball)


class Row(NamedTuple):
    start: int
    moves: tuple[Move, ...]


def draw(rng: Random) -> Problem:
    row = _drawn_row(rng)
    *executed, stop = execute(row)
    moves = "\n".join(f"{step.label}: {step.instruction}" for step in (*executed, stop))
    return Problem(
        domain="cups",
        size=len(executed),
        identity=f"{row.start}\n{moves}",
        question=rng.choice(QUESTIONS).format(start=row.start, moves=moves),
        thoughts={
            "high": "\n".join(map(str, (*executed, stop))),
            "medium": ", ".join(f"{step.label} {step.state[-1]}" for step in executed) + ".",
        },
        answer=stop.state[-1],
    )


def execute(row: Row, after: Step | None = None) -> Iterator[Step]:
    """The steps from the first on, or those after a given one, wherever the ball is in it."""
    done, ball = (0, row.start) if after is None else (ascii_lowercase.index(after.label) + 1, int(after.state[-1]))
    for label, move in zip(ascii_lowercase[done:], row.moves[done:], strict=False):
        holds, ball = move.holds(ball), move.after(ball)
        yield Step(label, str(move), holds, f"ball {ball}")
    yield Step(ascii_lowercase[len(row.moves)], "stop", None, f"ball {ball}")


def read(question: str) -> Row:
    """The cups that a question is about, in whatever words it is asked."""
    start = re.search(r"The ball is under (\d)\.$", question, re.MULTILINE)
    if not start:
        raise ValueError(f"a question about cups says where the ball is, not {question!r}")
    moves = re.findall(r"^[a-z]: (?:if (.+) (\d), )?swap (\d) and (\d)$", question, re.MULTILINE)
    return Row(
        int(start[1]),
        tuple(Move(condition or None, int(place or 0), (int(a), int(b))) for condition, place, a, b in moves),
    )


SERIAL = Serial(lambda question, after: execute(read(question), after), digits="12345")


def _drawn_row(rng: Random) -> Row:
    ball = start = rng.choice(CUPS)
    moves = []
    for _ in range(rng.choice(STEPS)):
        moves.append(_drawn_move(rng, ball))
        ball = moves[-1].after(ball)
    return Row(start, tuple(moves))


def _drawn_move(rng: Random, ball: int) -> Move:
    """A move that the ball is part of more often than chance would have it: two in five of all swaps."""
    first, second = rng.sample(CUPS, 2)
    if ball not in (first, second) and rng.random() < 0.3:
        first = ball
    swapped = (min(first, second), max(first, second))
    if rng.random() < 0.75:
        return Move(None, 0, swapped)
    condition = rng.choice(("under", "left of", "right of"))
    if condition == "under":
        return Move(condition, rng.choice((*swapped, *swapped, ball, rng.choice(CUPS))), swapped)
    return Move(condition, rng.choice(CUPS[1:-1]), swapped)
