"""What is too large to work out, and python computes: products, powers, long sums. The answer is what it prints.

print(4837 * 2291)
"""

import operator
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import NamedTuple

from gptoss_lab.nano.domains.arithmetic import MAX_DIGITS
from gptoss_lab.nano.domains.problem import BuiltInTool, Call, Problem
from gptoss_lab.nano.domains.words import phrases

PRODUCTS = phrases("""
    What is {a} * {b}? | What is {a} times {b}? | What is {a} x {b}? | What is {a}*{b}? | {a} * {b} | {a}*{b}
    {a} * {b} = ? | {a} times {b} | Multiply {a} by {b}. | Multiply {a} and {b}. | Please multiply {a} and {b}.
    Calculate {a} * {b}. | Compute {a} times {b}. | Work out {a} * {b}. | What is the product of {a} and {b}?
    How much is {a} * {b}? | Find the product of {a} and {b}. | Tell me {a} times {b}.
""")
POWERS = phrases("""
    What is {a} ** {b}? | What is {a} ^ {b}? | What is {a} to the power of {b}? | {a} ** {b} | {a}^{b}
    Compute {a} to the power of {b}. | Raise {a} to the power of {b}.
""")
LONG_SUMS = phrases("""
    What is {a} + {b}? | {a} + {b} | Add {a} and {b}. | {a} + {b} = ? | What is {a} plus {b}?
    Find the sum of {a} and {b}.
""")
ENDS = ("", "\n")
TOOLS: tuple[tuple[BuiltInTool, ...], ...] = (("python",), ("python",), ("python",), ("browser", "python"))


class Term(NamedTuple):
    a: int
    sign: str
    b: int

    def __str__(self) -> str:
        return f"{self.a} {self.sign} {self.b}"

    @property
    def value(self) -> int:
        return SIGNS[self.sign](self.a, self.b)

    @property
    def identity(self) -> str:
        """The same for both orders, if they come to the same."""
        return str(self if self.sign == "**" else Term(min(self.a, self.b), self.sign, max(self.a, self.b)))


SIGNS: dict[str, Callable[[int, int], int]] = {"*": operator.mul, "**": operator.pow, "+": operator.add}
PHRASES = {"*": PRODUCTS, "**": POWERS, "+": LONG_SUMS}
NAMES = {"*": "product", "**": "power", "+": "long sum"}


def draw(rng: Random) -> Problem:
    term = rng.choices((_product, _power, _long_sum), weights=(8, 1, 1))[0](rng)
    call = Call(
        tool="python",
        content=f"print({term})",
        result=f"{term.value}{rng.choice(ENDS)}",
        thoughts={"medium": "python computes it.", "high": f"A {NAMES[term.sign]}: python computes it."},
    )
    return replace(_asked(rng, term), tools=rng.choice(TOOLS), calls=(call,))


def product(rng: Random) -> Problem:
    """A product that nothing computes yet."""
    return _asked(rng, _product(rng))


def _asked(rng: Random, term: Term) -> Problem:
    return Problem(
        domain="python",
        size=len(str(term.value)),
        identity=term.identity,
        question=rng.choice(PHRASES[term.sign]).format(a=term.a, b=term.b),
        thoughts={"high": f"python says {term.value}."},
        answer=str(term.value),
    )


def _product(rng: Random) -> Term:
    return Term(_number(rng, rng.randint(1, 6)), "*", _number(rng, rng.randint(1, 6)))


def _power(rng: Random) -> Term:
    return Term(rng.randint(2, 99), "**", rng.randint(2, 6))


def _long_sum(rng: Random) -> Term:
    longest = (MAX_DIGITS + 1, MAX_DIGITS + 6)
    return Term(_number(rng, rng.randint(*longest)), "+", _number(rng, rng.randint(*longest)))


def _number(rng: Random, digits: int) -> int:
    return rng.randint(10 ** (digits - 1), 10**digits - 1)
