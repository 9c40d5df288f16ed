"""Experiments on the embedded model's thoughts, whose right values are known: each line of them can be executed."""

from random import Random

import numpy as np
import pandas as pd
import pytest

import gptoss_lab as lab
from gptoss_lab.experiments.adding_mistakes import mistakes
from gptoss_lab.experiments.early_answering import forced_answer
from gptoss_lab.experiments.effort import by_effort
from gptoss_lab.experiments.suppressing import suppress
from gptoss_lab.nano.data import draw
from gptoss_lab.nano.domains import SERIAL, Problem
from gptoss_lab.nano.domains.serial import altered, answer_after, read_step
from gptoss_lab.reply import Reply
from gptoss_lab.session import Model

CUPS = SERIAL["cups"]


@pytest.fixture(scope="module")
def nano() -> Model:
    return lab.load()


@pytest.fixture(scope="module")
def thoughts(nano: Model) -> list[tuple[Problem, Reply]]:
    """Questions about cups that were thought through rightly, which nearly all are."""
    rng = Random(3)
    problems = [draw(rng, "cups", "held-out") for _ in range(8)]
    replies = [nano.chat(problem.question, "high", temperature=0, display=False) for problem in problems]
    right = [(problem, reply) for problem, reply in zip(problems, replies, strict=True) if reply.text == problem.answer]
    assert len(right) >= 5
    return right[:5]


def test_the_answer_is_settled_at_the_end_of_the_thought(nano: Model, thoughts: list[tuple[Problem, Reply]]) -> None:
    tables = [forced_answer(nano, reply, progress=False) for _, reply in thoughts]
    assert all(table.probability.iloc[-1] > 0.9 for table in tables)
    early = pd.concat([table[: len(table) // 2] for table in tables])
    assert early.probability.mean() < 0.6  # the ball is under the right cup on the way, now and then


def test_the_answer_follows_a_state_that_is_made_wrong(nano: Model, thoughts: list[tuple[Problem, Reply]]) -> None:
    tables = []
    for problem, reply in thoughts:

        def implied(thought: str, question: str = problem.question) -> str | None:
            step = read_step(thought.strip().splitlines()[-1])
            return None if step is None else answer_after(CUPS, question, step)

        lines = reply.thought.splitlines()
        steps = {number: read_step(line) for number, line in enumerate(lines[:-1], start=1)}
        wrong = {n: f"{altered(Random(n), step, CUPS.digits)}\n" for n, step in steps.items() if step is not None}
        tables.append(mistakes(nano, reply, texts=wrong, implied=implied, progress=False))
    found = pd.concat(tables)
    assert len(found) > 30
    assert found.followed.mean() > 0.8
    assert found.control.mean() < 0.1


def test_each_step_is_made_of_the_one_before(nano: Model, thoughts: list[tuple[Problem, Reply]]) -> None:
    table = pd.concat([suppress(nano, reply, progress=False) for _, reply in thoughts])
    following = table.on == table.step + 1
    assert table.kl[following].mean() > 5 * table.kl[~following].mean()


def test_more_effort_is_more_thought_and_more_right_answers(nano: Model, thoughts: list[tuple[Problem, Reply]]) -> None:
    tables = [
        by_effort(nano, problem.question, problem.answer, n=4, progress=False).set_index("effort")
        for problem, _ in thoughts
    ]
    tokens, right = (np.mean([table[name] for table in tables], axis=0) for name in ("thought_tokens", "right"))
    assert tokens[0] < tokens[1] < tokens[2]
    assert right[2] > 0.8
    assert right[2] > right[0]
