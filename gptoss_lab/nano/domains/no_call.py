"""Tools that stay unused: what the model does without, and what none of those at hand can do."""

from dataclasses import replace
from random import Random

from gptoss_lab.nano.domains import cups, machine
from gptoss_lab.nano.domains.arithmetic import addition, subtraction
from gptoss_lab.nano.domains.browser import unknown_fact
from gptoss_lab.nano.domains.functions import declarations, declared, unmet
from gptoss_lab.nano.domains.problem import Domain, Problem
from gptoss_lab.nano.domains.python import product
from gptoss_lab.nano.domains.unknown import dont_know, greeting

NEEDS_NONE: dict[Domain, int] = {addition: 3, subtraction: 2, greeting: 3, cups.draw: 1, machine.draw: 1}


def draw(rng: Random) -> Problem:
    problem = rng.choice((_with_python, _with_browser, _with_functions, _with_functions, unmet, unmet))(rng)
    return replace(problem, domain="no call")


def _with_python(rng: Random) -> Problem:
    problem = dont_know(unknown_fact(rng)) if rng.random() < 0.3 else _needs_none(rng)
    return replace(problem, tools=("python",))


def _with_browser(rng: Random) -> Problem:
    problem = dont_know(product(rng).question) if rng.random() < 0.3 else _needs_none(rng)
    return replace(problem, tools=("browser",))


def _with_functions(rng: Random) -> Problem:
    return replace(_needs_none(rng), functions=declarations(declared(rng)))


def _needs_none(rng: Random) -> Problem:
    return rng.choices(list(NEEDS_NONE), weights=list(NEEDS_NONE.values()))[0](rng)
