"""Answers in the form that the developer message asks for: in words, or as JSON.

The problems are those of other domains whose answer is a number; thinking ends with what is to be done with it. For
words the digits of the answer are named first: "In words: 6 tens, 4 units.".
"""

import json
from collections.abc import Callable
from dataclasses import replace
from random import Random

from gptoss_lab.nano.domains import cups, machine
from gptoss_lab.nano.domains.arithmetic import addition, named_digits, subtraction
from gptoss_lab.nano.domains.problem import Domain, Problem
from gptoss_lab.nano.domains.words import phrases

ANSWER_IN_WORDS = (
    "Answer in words.",
    "Answer in words.",
    "Answer in words, not digits.",
    "Answer with number words.",
    "Write all numbers in words.",
    "Write the answer in words.",
    "Spell numbers out.",
    "Use words instead of digits.",
    "Use no digits in your answer.",
    "Give the result in words.",
)
ANSWER_AS_JSON = (
    "Answer as JSON.",
    "Answer as JSON.",
    "Answer in JSON.",
    "Answer with JSON only.",
    "Always answer as JSON.",
    "Give the answer as JSON.",
    "Reply in JSON.",
    "Return JSON.",
    'Answer as JSON, like {"answer": 1}.',
    'Answer as a JSON object with the key "answer".',
)

NUMERIC: dict[Domain, int] = {addition: 4, subtraction: 3, machine.draw: 2, cups.draw: 2}
"""Domains whose answer is a number, and how often each is drawn."""


def worded(rng: Random) -> Problem:
    return _formed(rng, "words", ANSWER_IN_WORDS, in_words, lambda number: f"In words: {_named(number)}.")


def as_json(rng: Random) -> Problem:
    return _formed(rng, "json", ANSWER_AS_JSON, lambda number: json.dumps({"answer": number}), lambda _: "As JSON.")


def in_words(number: int) -> str:
    """A whole number of up to nine digits: "minus two thousand five"."""
    if number < 0:
        return f"minus {in_words(-number)}"
    parts = [f"{_below_thousand(count)} {name}".strip() for count, name in _groups(number)]
    return " ".join(parts) or "zero"


def _formed(
    rng: Random,
    domain: str,
    instructions: tuple[str, ...],
    form: Callable[[int], str],
    remark: Callable[[int], str],
) -> Problem:
    problem = rng.choices(list(NUMERIC), weights=list(NUMERIC.values()))[0](rng)
    number = int(problem.answer)
    return replace(
        problem,
        domain=domain,
        instructions=rng.choice(instructions),
        thoughts={
            "high": f"{problem.thoughts['high']}\n{remark(number)}",
            "medium": f"{problem.thoughts['medium']} {remark(number)}",
        },
        answer=form(number),
    )


ONES = phrases("""
    zero | one | two | three | four | five | six | seven | eight | nine | ten | eleven | twelve | thirteen | fourteen
    fifteen | sixteen | seventeen | eighteen | nineteen
""")
TENS = phrases("twenty | thirty | forty | fifty | sixty | seventy | eighty | ninety")


def _groups(number: int) -> list[tuple[int, str]]:
    """Millions, thousands and the rest, with their names; those that are there."""
    groups = ((number // 1_000_000, "million"), (number // 1000 % 1000, "thousand"), (number % 1000, ""))
    return [(count, name) for count, name in groups if count]


def _below_thousand(number: int) -> str:
    hundreds, rest = divmod(number, 100)
    tens, ones = divmod(rest, 10)
    parts = [f"{ONES[hundreds]} hundred"] if hundreds else []
    if rest < 20:
        parts += [ONES[rest]] if rest else []
    else:
        parts += [TENS[tens - 2] + (f"-{ONES[ones]}" if ones else "")]
    return " ".join(parts)


def _named(number: int) -> str:
    """The digits of a number, each with its column: "minus 6 tens, 4 units"."""
    return ("minus " if number < 0 else "") + named_digits(abs(number))
