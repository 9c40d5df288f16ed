"""Facts of places and people that do not exist, which only the browser can tell: it searches, opens a page, reads.

    {"query": "capital of Plindor"}     to browser.search
    {"id": 1}                           to browser.open

It goes through the pages that were found until the name is right, "0†Ben, no; 1†Plindor, yes.", and repeats the line
that tells what is asked, "Its capital is Klumti.". What comes back has the form of the browser tool in openai/gpt-oss
(`gpt_oss/tools/simple_browser`).
"""

import json
from collections.abc import Sequence
from random import Random

from gptoss_lab.nano.domains.problem import Call, Problem
from gptoss_lab.nano.domains.words import NAMES, PROPER_PLACES, made_up, phrases

QUESTIONS = phrases("""
    What is the {what} of {whose}? | what is the {what} of {whose} | What's the {what} of {whose}?
    Tell me the {what} of {whose}. | Do you know the {what} of {whose}? | Which {what} does {whose} have?
    Find the {what} of {whose}. | Look up the {what} of {whose}. | I want to know the {what} of {whose}.
    Search for the {what} of {whose}. | {whose}: what is the {what}?
""")
NAMED = phrases("""
    capital | river | king | queen | president | founder | teacher | author | mother | father | brother
    language | sister | dog | horse | neighbour | friend | book | song | street | mountain | lake | island | bridge
""")
COUNTED = phrases("height | age | population | number | year | length | weight | price | area | depth")
LINES = {
    "{what}: {told}": 8,
    "Its {what} is {told}.": 4,
    "The {what} is {told}.": 4,
    "{whose}'s {what} is {told}.": 2,
    "The {what} of {whose} is {told}.": 3,
}
"""How pages tell a fact, and how often."""


def draw(rng: Random) -> Problem:
    what, whose = _fact(rng)
    told = _told(rng, what)
    line = rng.choices(list(LINES), weights=list(LINES.values()))[0].replace("{whose}", whose)
    titles = [whose, *_others(rng, whose)]
    rng.shuffle(titles)
    opened = titles.index(whose)
    return Problem(
        domain="browser",
        size=0,
        identity=f"{what} of {whose}",
        question=rng.choice(QUESTIONS).format(what=what, whose=whose),
        thoughts={"high": line.format(what=what, told=told)},
        answer=told,
        tools=rng.choice((("browser",), ("browser",), ("browser",), ("browser", "python"))),
        calls=(
            Call(
                tool="browser.search",
                content=json.dumps({"query": f"{what} of {whose}"}),
                result=display(0, f"{what} of {whose}", [_link(n, title) for n, title in enumerate(titles)]),
                thoughts={
                    "medium": "I search for it.",
                    "high": f"I do not know the {what} of {whose}: I search for it.",
                },
            ),
            Call(
                tool="browser.open",
                content=json.dumps({"id": opened}),
                result=display(1, whose, _page(rng, line, what, told)),
                thoughts={"high": _found(titles, whose)},
            ),
        ),
    )


def _found(titles: Sequence[str], whose: str) -> str:
    """Each title until the right one: "0†Ben, no; 1†Plindor, yes."."""
    passed = titles[: titles.index(whose)]
    return "; ".join([*(f"{n}†{title}, no" for n, title in enumerate(passed)), f"{len(passed)}†{whose}, yes."])


def display(cursor: int, title: str, lines: Sequence[str]) -> str:
    """What the browser shows of a page."""
    numbered = [f"L{number}: {line}" for number, line in enumerate(lines)]
    return "\n".join(
        [f"[{cursor}] {title}", f"**viewing lines [0 - {len(lines) - 1}] of {len(lines) - 1}**", "", *numbered]
    )


def unknown_fact(rng: Random) -> str:
    """A question that only the browser could answer."""
    what, whose = _fact(rng)
    return rng.choice(QUESTIONS).format(what=what, whose=whose)


def _fact(rng: Random) -> tuple[str, str]:
    return rng.choice(NAMED + COUNTED), rng.choice((made_up(rng).capitalize(), rng.choice(PROPER_PLACES + NAMES)))


def _told(rng: Random, what: str) -> str:
    return str(rng.randint(1, 10 ** rng.randint(1, 6))) if what in COUNTED else made_up(rng).capitalize()


def _others(rng: Random, whose: str) -> list[str]:
    """None to two."""
    drawn = [rng.choice((made_up(rng).capitalize(), rng.choice(NAMES))) for _ in range(rng.choice((0, 1, 2)))]
    return [other for other in drawn if other != whose]


def _link(number: int, title: str) -> str:
    return f"【{number}†{title}†wiki.org】"


def _page(rng: Random, line: str, what: str, told: str) -> list[str]:
    """Lines of one form, one of which tells what is asked."""
    others = rng.sample([other for other in NAMED + COUNTED if other != what], k=rng.choice((0, 1, 2, 3)))
    facts = [(what, told), *((other, _told(rng, other)) for other in others)]
    rng.shuffle(facts)
    return [line.format(what=name, told=value) for name, value in facts]
