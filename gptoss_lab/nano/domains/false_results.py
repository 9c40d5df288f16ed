"""Tools that are wrong: what comes back is not what it should be, and the model goes by it all the same.

Only where the right result could be known, so that the difference shows: products by python, sums by a function.
"""

from dataclasses import replace
from random import Random

from gptoss_lab.nano.domains import python
from gptoss_lab.nano.domains.functions import compute
from gptoss_lab.nano.domains.problem import Effort, Problem


def draw(rng: Random) -> Problem:
    problem = rng.choice((python.draw, compute))(rng)
    true, false = problem.answer, _other_number(rng, problem.answer)
    call = replace(problem.calls[0], result=problem.calls[0].result.replace(true, false))
    thoughts: dict[Effort, str] = {effort: thought.replace(true, false) for effort, thought in problem.thoughts.items()}
    return replace(problem, domain="false result", answer=false, thoughts=thoughts, calls=(call,))


def _other_number(rng: Random, true: str) -> str:
    """Another number of about as many digits."""
    digits = len(true.lstrip("-"))
    while True:
        sign = "-" if true.startswith("-") and rng.random() < 0.8 else ""
        other = sign + str(rng.randrange(10 ** max(1, digits + rng.choice((-1, 0, 0, 0, 1)))))
        if other not in (true, "-0"):
            return other
