"""The examination of the embedded model, with stand-ins whose every word is known."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pandas as pd
import pytest
import torch

from gptoss_lab.config import PRESETS
from gptoss_lab.nano import causality, evaluate, vocabulary
from gptoss_lab.nano.batches import lesson
from gptoss_lab.nano.data import Conversation, example, prompt
from gptoss_lab.nano.domains import DOMAINS, SERIAL, Problem
from gptoss_lab.nano.domains.serial import read_step
from gptoss_lab.nano.evaluate import Outcome

D_VOCAB = PRESETS["nano"].d_vocab


@pytest.fixture(scope="module")
def encoding():
    return vocabulary.build(D_VOCAB, seed=1, n_conversations=300)


class Parrot:
    """A model that goes on as the first of its scripts that begins with what it has read; else it stays at token 0."""

    device = torch.device("cpu")

    def __init__(self, scripts: Sequence[Sequence[int]]):
        self.scripts = [list(script) for script in scripts]

    def new_cache(self) -> list[int]:
        return []

    def __call__(self, tokens, caches=None, last_only: bool = False):
        rows = tokens.tolist()
        assert caches is None or len({len(cache) for cache in caches}) == 1  # as the real one wants it
        logits = torch.zeros(len(rows), len(rows[0]), D_VOCAB)
        for number, row in enumerate(rows):
            cache = [] if caches is None else caches[number]
            for position, token in enumerate(row):
                cache.append(token)
                following = next((s[len(cache)] for s in self.scripts if s[: len(cache)] == cache != s), 0)
                logits[number, position, following] = 1
        return logits[:, -1:] if last_only else logits


def as_tokens(talk: Conversation, encoding) -> list[int]:
    one = lesson(talk, encoding)
    return [*one.inputs, one.targets[-1]]


def script(problem: Problem, effort, encoding) -> list[int]:
    return as_tokens(example(problem, effort), encoding)


def drawn(domain: str, n: int) -> list[Problem]:
    rng = Random(domain)
    return [DOMAINS[domain](rng) for _ in range(n)]


@pytest.mark.parametrize("effort", evaluate.EFFORTS)
@pytest.mark.parametrize("domain", ["browser", "functions", "machine", "false result"])
def test_who_says_what_is_expected_is_right_by_reading_and_by_sampling(encoding, domain: str, effort) -> None:
    problems = drawn(domain, 3)
    parrot = Parrot([script(problem, effort, encoding) for problem in problems])
    calls = None if domain == "machine" else True
    assert evaluate.examine(parrot, encoding, problems, effort) == [Outcome(True, True, calls)] * 3
    talks = evaluate.converse(parrot, encoding, problems, effort)
    assert [evaluate.judge(p, effort, t) for p, t in zip(problems, talks, strict=True)] == [
        Outcome(True, True, calls)
    ] * 3
    for problem, talk in zip(problems, talks, strict=True):
        assert [message.content for message in talk if message.recipient == "assistant"] == [
            call.result for call in problem.calls
        ]


def says(problem: Problem, instead: Problem, effort, encoding) -> Outcome:
    """What comes of answering a problem as another one with the same question would have it."""
    assert prompt(problem, effort) == prompt(instead, effort)
    return evaluate.examine(Parrot([script(instead, effort, encoding)]), encoding, [problem], effort)[0]


def test_what_is_wrong_is_told_apart(encoding) -> None:
    problem = drawn("functions", 1)[0]
    call = problem.calls[0]
    silent = replace(problem, calls=(), thoughts={"high": "No."})
    assert says(problem, silent, "high", encoding) == Outcome(False, True, False)
    assert says(silent, problem, "high", encoding) == Outcome(False, False, None)
    other_answer = replace(problem, answer="no")
    assert says(problem, other_answer, "high", encoding) == Outcome(False, True, True)
    other_arguments = replace(problem, calls=(replace(call, content='{"no": 1}'),))
    assert says(problem, other_arguments, "high", encoding) == Outcome(False, True, True)
    other_tool = replace(problem, calls=(replace(call, tool="functions.nothing"),))
    assert says(problem, other_tool, "high", encoding) == Outcome(False, False, False)
    no_json = replace(problem, calls=(replace(call, content='{"no'),))
    assert says(problem, no_json, "high", encoding) == Outcome(False, True, False)
    spelt_otherwise = replace(problem, calls=(replace(call, content=call.content.replace(": ", ":")),))
    assert says(problem, spelt_otherwise, "high", encoding) == Outcome(True, True, True)
    thoughtless = replace(problem, calls=(replace(call, thoughts={}),), thoughts={})
    assert says(problem, thoughtless, "high", encoding) == Outcome(False, False, True)


def test_a_reply_that_does_not_end_is_not_well_formed(encoding, monkeypatch) -> None:
    monkeypatch.setattr(evaluate, "LONGEST_REPLY", 20)
    problem = drawn("cups", 1)[0]
    endless = script(problem, "low", encoding)[:-1] + [65] * 30
    assert evaluate.examine(Parrot([endless]), encoding, [problem], "low") == [Outcome(False, False, None)]


def test_a_second_final_message_is_not_well_formed(encoding) -> None:
    problem = drawn("cups", 1)[0]
    start, end, again = (
        encoding.encode(text, allowed_special="all") for text in ("<|start|>assistant", "<|end|>", "<|return|>")
    )
    tokens = script(problem, "low", encoding)
    final = encoding.encode(f"<|channel|>final<|message|>{problem.answer}", allowed_special="all")
    twice = [*tokens[:-1], *end, *start, *final, *again]
    assert evaluate.examine(Parrot([twice]), encoding, [problem], "low") == [Outcome(False, False, None)]


def test_tables_give_shares_with_their_intervals(encoding) -> None:
    sums = evaluate.held_out("addition", 12, seed=1)
    parrot = Parrot([script(problem, "low", encoding) for problem in sums[:9]])
    outcomes = evaluate.evaluate(parrot, encoding, 12, seed=1, efforts=["low"], domains=["addition"])
    assert outcomes.right.sum() == 9
    row = evaluate.table(outcomes).splitlines()[-1]
    assert row == "| addition | 12 | 75.0% (46.8% to 91.1%) |  | 75.0% |"
    assert "| addition | " in evaluate.table_by_size(outcomes)


def test_the_table_tells_calls_and_form_effort_by_effort() -> None:
    outcomes = pd.DataFrame(
        {
            "domain": "python",
            "effort": ["high", "high", "low", "low"],
            "right": [True, True, True, False],
            "well_formed": [True, True, True, False],
            "called": [True, False, False, False],
        }
    )
    row = evaluate.table(outcomes).splitlines()[-1]
    assert row.endswith("| 50.0%, 0.0% | 100.0%, 50.0% |")


def test_held_out_problems_are_distinct_and_of_the_size_asked_for() -> None:
    problems = evaluate.held_out("cups", 40, seed=0, size=12)
    assert len({problem.identity for problem in problems}) == 40
    assert {problem.size for problem in problems} == {12}


# Causality


@pytest.mark.parametrize("domain", SERIAL)
def test_thinking_that_is_used_is_told_from_thinking_that_is_not(encoding, domain: str) -> None:
    problems = drawn(domain, 6)
    changes = causality.alterations(problems)
    assert len(changes) >= 5
    following, deaf = [], []
    for one in changes:
        *_, last = one.thought.splitlines()
        rest = [str(step) for step in SERIAL[domain].steps(one.problem.question, read_step(last))]
        thought = "\n".join([one.thought, *rest])
        following.append(script(replace(one.problem, thoughts={"high": thought}, answer=one.answer), "high", encoding))
        deaf.append(script(replace(one.problem, thoughts={"high": thought}), "high", encoding))
    results = causality.altered_states(Parrot(following), encoding, changes)
    assert results.followed.all()
    assert not results.unmoved.any()
    results = causality.altered_states(Parrot(deaf), encoding, changes)
    assert results.unmoved.all()
    assert not results.followed.any()


def test_answers_are_forced_after_whole_lines(encoding) -> None:
    problem = drawn("machine", 1)[0]
    lines = problem.thoughts["high"].splitlines()
    half = replace(problem, thoughts={"high": "\n".join(lines[: round(len(lines) / 2)])})
    none = replace(problem, thoughts={})
    knows = Parrot([script(half, "high", encoding), script(problem, "high", encoding)])
    results = causality.forced_answers(knows, encoding, [problem])
    assert results[results.right].share.tolist() == [0.5, 1.0]
    at_once = Parrot([script(none, "high", encoding)])
    assert causality.forced_answers(at_once, encoding, [problem]).right.tolist() == [True, False, False, False, False]


def test_altered_states_lead_to_other_answers_in_one_digit() -> None:
    for one in causality.alterations(drawn("machine", 30), seed=3):
        assert one.answer != one.problem.answer
        lines, changed = one.problem.thoughts["high"].splitlines(), one.thought.splitlines()
        assert lines[: len(changed) - 1] == changed[:-1]
        differing = [a != b for a, b in zip(lines[len(changed) - 1], changed[-1], strict=True)]
        assert sum(differing) == 1
