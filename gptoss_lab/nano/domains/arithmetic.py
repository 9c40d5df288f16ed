"""Addition and subtraction of two whole numbers, column by column from the right, with carries and borrows.

At high effort the digits are named first, so that each column can find its own, then there is a line a column:

    2 and 2 digits: 3 tens, 8 units; 5 tens, 7 units.
    Units: 8 + 7 = 15, write 5, carry 1.
    Tens: 3 + 5 + 1 = 9, write 9, carry 0.
    Together: 95.

To subtract, the digits are compared first, from the left until they differ, so that the smaller number is taken from
the larger; a column says that it does not suffice before it borrows:

    2 and 2 digits: 5 tens, 2 units; 3 tens, 7 units.
    From the left: tens 5 > 3.
    Units: 2 - 7 < 0, 12 - 7 = 5, write 5, borrow 1.
    Tens: 5 - 3 - 1 = 1, write 1, borrow 0.
    Together: 15.

At medium effort there are the sums alone, "units 8 + 7 = 15, tens 3 + 5 + 1 = 9.", at low effort the answer at once.
"""

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from gptoss_lab.nano.domains.problem import Problem

MAX_DIGITS = 8
COLUMNS = (
    "units",
    "tens",
    "hundreds",
    "thousands",
    "ten thousands",
    "hundred thousands",
    "millions",
    "ten millions",
    "hundred millions",
)

SUM_PHRASES = (
    "What is {a} + {b}?",
    "What is {a} + {b}?",
    "What is {a}+{b}?",
    "What's {a} + {b}?",
    "what is {a} + {b}",
    "What is {a} plus {b}?",
    "What does {a} + {b} make?",
    "What do you get if you add {a} and {b}?",
    "What is the sum of {a} and {b}?",
    "How much is {a} + {b}?",
    "How much is {a} plus {b}?",
    "{a} + {b} = ?",
    "{a} + {b} =",
    "{a} + {b}",
    "{a} + {b}?",
    "{a}+{b}",
    "{a}+{b}=?",
    "{a}+{b}=",
    "{a} plus {b}",
    "Add {a} and {b}.",
    "Add {a} to {b}.",
    "add {a} and {b}",
    "Please add {a} and {b}.",
    "Please calculate {a} + {b}.",
    "Calculate {a} + {b}.",
    "Compute {a} + {b}.",
    "Work out {a} + {b}.",
    "Tell me {a} + {b}.",
    "Can you add {a} and {b}?",
    "Could you tell me what {a} plus {b} is?",
    "Find the sum of {a} and {b}.",
    "Sum {a} and {b}.",
)

# {a} - {b}, whichever stands first.
DIFFERENCE_PHRASES = (
    "What is {a} - {b}?",
    "What is {a} - {b}?",
    "What is {a}-{b}?",
    "What's {a} - {b}?",
    "what is {a} - {b}",
    "What is {a} minus {b}?",
    "How much is {a} - {b}?",
    "How much is {a} minus {b}?",
    "{a} - {b} = ?",
    "{a} - {b} =",
    "{a} - {b}",
    "{a} - {b}?",
    "{a}-{b}",
    "{a}-{b}=?",
    "{a}-{b}=",
    "{a} minus {b}",
    "Subtract {b} from {a}.",
    "Please subtract {b} from {a}.",
    "Can you subtract {b} from {a}?",
    "Take {b} from {a}.",
    "Take {b} away from {a}.",
    "Please calculate {a} - {b}.",
    "Calculate {a} - {b}.",
    "Compute {a} - {b}.",
    "Work out {a} - {b}.",
    "Tell me {a} - {b}.",
    "What is left if you take {b} from {a}?",
)


def addition(rng: Random) -> Problem:
    a, b = _operands(rng)
    columns = list(_add_columns(a, b))
    together = str(a + b)
    lines = [column.line("carry") for column in columns]
    if len(together) > len(columns):
        lines.append(f"{COLUMNS[len(columns)].capitalize()}: write 1.")
    return Problem(
        domain="addition",
        size=max(len(str(a)), len(str(b))),
        identity="{} + {}".format(*sorted((a, b))),
        question=rng.choice(SUM_PHRASES).format(a=a, b=b),
        thoughts={
            "high": "\n".join([_named_digits(a, b), *lines, f"Together: {together}."]),
            "medium": _sums(columns),
        },
        answer=together,
    )


def subtraction(rng: Random) -> Problem:
    a, b = _operands(rng)
    if a < b and rng.random() < 0.4:
        a, b = b, a
    columns = list(_subtract_columns(max(a, b), min(a, b)))
    sign, remark = ("-", [NEGATIVE]) if a < b else ("", [])
    together = sign + "".join(str(column.written) for column in reversed(columns))
    lines = [column.line("borrow") for column in columns]
    return Problem(
        domain="subtraction",
        size=max(len(str(a)), len(str(b))),
        identity="{1} - {0}".format(*sorted((a, b))),
        question=rng.choice(DIFFERENCE_PHRASES).format(a=a, b=b),
        thoughts={
            "high": "\n".join([_named_digits(a, b), _compared(a, b), *remark, *lines, f"Together: {together}."]),
            "medium": " ".join([*remark, _sums(columns)]),
        },
        answer=str(a - b),
    )


NEGATIVE = "The first is smaller: take it from the second."


class _Column(NamedTuple):
    name: str
    sum: str
    written: int
    handed_on: int

    def line(self, handing_on: str) -> str:
        return f"{self.name.capitalize()}: {self.sum}, write {self.written}, {handing_on} {self.handed_on}."


def named_digits(number: int, width: int = 1) -> str:
    """The digits of a number from the left, each with its column: "3 tens, 8 units"; of as many columns as `width`, or
    as it needs.
    """
    digits = str(number).zfill(width)
    return ", ".join(f"{digit} {name}" for digit, name in zip(digits, COLUMNS[len(digits) - 1 :: -1], strict=True))


def _operands(rng: Random) -> tuple[int, int]:
    """Two numbers, mostly of one length; each length is as likely as any other."""
    longer = rng.randint(1, MAX_DIGITS)
    shorter = longer if rng.random() < 0.6 else rng.randint(1, longer)
    a, b = _number(rng, longer), _number(rng, shorter)
    return (a, b) if rng.random() < 0.5 else (b, a)


def _number(rng: Random, digits: int) -> int:
    return rng.randint(10 ** (digits - 1) if digits > 1 else 0, 10**digits - 1)


def _digit_pairs(a: int, b: int) -> Iterator[tuple[str, int, int]]:
    """Column name and both digits, from the right; the shorter number is filled with zeros."""
    width = max(len(str(a)), len(str(b)))
    digits_a, digits_b = (map(int, reversed(str(n).zfill(width))) for n in (a, b))
    yield from zip(COLUMNS[:width], digits_a, digits_b, strict=True)


def _named_digits(a: int, b: int) -> str:
    """How many digits both have, then these, from the left, each with its column:
    "2 and 2 digits: 3 tens, 8 units; 5 tens, 7 units.".
    """
    width = max(len(str(a)), len(str(b)))
    return f"{len(str(a))} and {len(str(b))} digits: {named_digits(a, width)}; {named_digits(b, width)}."


def _compared(a: int, b: int) -> str:
    """The digits of both from the left, until they differ: "From the left: tens 4 = 4, units 5 > 0."."""
    compared = []
    for name, digit_a, digit_b in list(_digit_pairs(a, b))[::-1]:
        sign = "=" if digit_a == digit_b else "<" if digit_a < digit_b else ">"
        compared.append(f"{name} {digit_a} {sign} {digit_b}")
        if sign != "=":
            break
    return f"From the left: {', '.join(compared)}."


def _add_columns(a: int, b: int) -> Iterator[_Column]:
    carry = 0
    for name, digit_a, digit_b in _digit_pairs(a, b):
        carried = f" + {carry}" if carry else ""
        total = digit_a + digit_b + carry
        carry = total // 10
        yield _Column(name, f"{digit_a} + {digit_b}{carried} = {total}", total % 10, carry)


def _subtract_columns(larger: int, smaller: int) -> Iterator[_Column]:
    borrow = 0
    for name, digit_a, digit_b in _digit_pairs(larger, smaller):
        borrowed = f" - {borrow}" if borrow else ""
        needed = digit_b + borrow
        borrow = int(digit_a < needed)
        upper = digit_a + 10 * borrow
        too_little = f"{digit_a} - {digit_b}{borrowed} < 0, " if borrow else ""
        yield _Column(name, f"{too_little}{upper} - {digit_b}{borrowed} = {upper - needed}", upper - needed, borrow)


def _sums(columns: list[_Column]) -> str:
    return ", ".join(f"{column.name} {column.sum}" for column in columns) + "."
