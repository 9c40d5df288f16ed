"""Experiments on thoughts: where a model answers with one digit of its thought, that step counts and no other."""

import math
import re
from functools import partial

import numpy as np
import pandas as pd
import pytest
from small import BYTES

import gptoss_lab as lab
from gptoss_lab import edits, planted
from gptoss_lab.experiments.adding_mistakes import mistakes
from gptoss_lab.experiments.corruption import corrupt
from gptoss_lab.experiments.early_answering import forced, forced_answer
from gptoss_lab.experiments.intervals import bootstrap_mean, wilson
from gptoss_lab.experiments.resampling import resample
from gptoss_lab.experiments.thinking import thinking_of
from gptoss_lab.harmony import Span
from gptoss_lab.model import Transformer
from gptoss_lab.reply import Reply
from gptoss_lab.segments import segments
from gptoss_lab.session import Model

TRUTH = planted.build("answer").truth
KEPT = TRUTH.kept_sentence + 1
"""The step that decides the answer, counted from 1."""

force, err, redraw = (partial(experiment, progress=False) for experiment in (forced_answer, mistakes, resample))


@pytest.fixture(scope="module")
def answering() -> Model:
    """It thinks of five digits, and answers with the third: see `planted.answer`."""
    return lab.load("planted:answer", engine="torch")


@pytest.fixture(scope="module")
def reply(answering: Model) -> Reply:
    return answering.chat("Which?", temperature=1.0, seed=5, max_new_tokens=60)


def implied(thought: str) -> str | None:
    found = re.findall(r"Keep (\d)", thought)
    return found[-1] if found else None


# Forced answers


def test_the_answer_is_settled_by_the_step_that_is_read(answering: Model, reply: Reply) -> None:
    table = force(answering, reply)
    assert list(table.columns) == ["step", "text", "answer", "probability", "low", "high"]
    assert table.step.tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_allclose(table.probability, [0.1] * KEPT + [1.0] * (6 - KEPT), atol=1e-3)
    assert table.answer[KEPT:].tolist() == [reply.text] * (6 - KEPT)
    assert table.text.tolist() == ["", *(f"{line}\n" for line in reply.thought.splitlines())]
    assert (table.low == table.probability).all()  # it is read, not drawn
    assert table.attrs["complete"]
    assert table.attrs["target"] == reply.text


def test_answers_may_be_drawn_instead(answering: Model, reply: Reply) -> None:
    table = force(answering, reply, samples=60)
    assert (table.probability[KEPT:] == 1).all()
    assert (table.low[:KEPT] <= 0.1).all()
    assert (table.high[:KEPT] >= 0.1).all()
    assert (table.probability[:KEPT] < 0.3).all()
    pd.testing.assert_frame_equal(table, force(answering, reply, samples=60))
    odd = force(answering, reply, samples=60, is_same=lambda said, target: int(said) % 2 == 1)
    assert (abs(odd.probability[:KEPT] - 0.5) < 0.25).all()


def test_another_answer_or_another_kind_of_step(answering: Model, reply: Reply) -> None:
    other = str((int(reply.text) + 1) % 10)
    table = force(answering, reply, answer=other)
    np.testing.assert_allclose(table.probability, [0.1] * KEPT + [0.0] * (6 - KEPT), atol=1e-3)
    whole = force(answering, reply, by="message")
    assert whole.step.tolist() == [0, 1]
    np.testing.assert_allclose(whole.probability, [0.1, 1], atol=1e-3)


def test_a_reply_that_came_to_no_answer_is_forced_to_one(answering: Model) -> None:
    cut = answering.chat("Which?", temperature=1.0, seed=5, max_new_tokens=22)
    assert cut.text == ""
    table = force(answering, cut)
    assert table.attrs["target"] == implied(cut.thought)
    np.testing.assert_allclose(table.probability, [0.1] * KEPT + [1.0] * (6 - KEPT), atol=1e-3)


def test_without_the_head_that_reads_no_step_settles_it(answering: Model, reply: Reply) -> None:
    layer, head = TRUTH.reader
    with answering.edit(edits.ablate_head(head, layer)):
        np.testing.assert_allclose(force(answering, reply).probability, 0.1, atol=1e-2)


def test_blanks_at_the_end_of_a_step_are_left_out() -> None:
    def cut(text: str) -> str:
        ids = BYTES.encode(text)
        step = segments(list(text), [Span(0, "assistant", "analysis", None, "content")] * len(text))[0]
        at, closing = forced(ids, 0, step, BYTES)
        return BYTES.decode([*ids[:at], *closing])

    closed = "One.<|end|><|start|>assistant<|channel|>final<|message|>"
    assert [cut(text) for text in ("One.\nTwo.", "One. Two.", "One.\n\n\nTwo.", "One.")] == [closed] * 4
    encoding = planted.build("answer").encoding
    assert encoding.decode([encoding.encode_single_token(".\n")]) == ".\n"  # one token: it is written anew
    assert forced([], 0, None, encoding)[1] == encoding.encode("<|channel|>final<|message|>", allowed_special="all")


# Mistakes


def test_a_mistake_matters_where_it_is_read(answering: Model, reply: Reply) -> None:
    table = err(answering, reply, implied=implied, rest="keep")
    assert table.step.tolist() == [1, 2, 3, 4, 5]
    assert table.changed.tolist() == [float(step == KEPT) for step in table.step]
    assert (table.control == 0).all()
    row = table.set_index("step").loc[KEPT]
    assert row.mistake == row.text.replace(reply.text, row.implied)
    assert row.answer == row.implied != reply.text
    assert row.followed == 1
    assert table.implied[: KEPT - 1].isna().all()
    assert table.followed[: KEPT - 1].isna().all()
    assert (table.low <= table.changed).all()
    assert (table.changed <= table.high).all()


def test_where_the_rest_is_thought_anew_the_control_tells_what_chance_does(answering: Model, reply: Reply) -> None:
    table = err(answering, reply, implied=implied, samples=30, temperature=1.0, seed=1).set_index("step")
    assert (table.n == 30).all()
    assert (table.changed[: KEPT - 1] > 0.7).all()
    assert (table.control[: KEPT - 1] > 0.7).all()  # it is not the mistake: any digit may be drawn
    assert (table.changed[KEPT], table.control[KEPT], table.followed[KEPT]) == (1, 0, 1)
    assert table.changed.loc[KEPT:].tolist() == [1, 0, 0]


def test_mistakes_of_ones_own(answering: Model, reply: Reply) -> None:
    table = err(answering, reply, texts={KEPT: "Keep 8 safe.\n"}, rest="keep")
    assert table.step.tolist() == [KEPT]
    assert table.answer.tolist() == ["8"]
    assert len(err(answering, reply, steps=[1, 5], rest="keep")) == 2
    with pytest.raises(ValueError, match="there is no step 7; the thought's steps are 1 to 5"):
        err(answering, reply, steps=[7])
    with pytest.raises(ValueError, match="there is no sign to get wrong in any step"):
        err(answering, reply, kind="sign")


@pytest.mark.parametrize(
    ("text", "kind", "pattern"),
    [
        ("write 5, carry 1", None, r"write (?!5)\d, carry 1|write 5, carry [02-9]"),
        ("3 + x = y", "sign", r"3 - x = y"),
        ("if z < x go on", "sign", r"if z > x go on"),
        ("So we ask Mary again.", None, r"So we ask (?!Mary)[A-Z]\w+ again\."),
        ("well-known facts, re-told.", None, None),
        ("Then it is.", "name", None),
    ],
)
def test_one_thing_is_made_wrong(text: str, kind, pattern: str | None) -> None:
    for seed in range(20):
        wrong = corrupt(text, kind, seed)
        assert wrong == corrupt(text, kind, seed)
        assert wrong is None if pattern is None else re.fullmatch(pattern, wrong or "")


# Resampling


def test_only_the_step_that_is_read_has_importance(answering: Model, reply: Reply) -> None:
    table = redraw(answering, reply, n=40, seed=2).set_index("step")
    assert table.index.tolist() == [1, 2, 3, 4, 5]
    assert table.kept[KEPT] == 1
    assert table.resampled[KEPT] < 0.4
    assert table.difference_low[KEPT] > 0.5
    assert table.low[KEPT] > table.chance[KEPT]
    assert table.counterfactual_low[KEPT] > 1
    others = table.drop(index=KEPT)
    assert (others.kl[[4, 5]] == 0).all()
    assert (others.kl < table.kl[KEPT] / 2).all()
    assert (others.difference_low <= 0).all()
    assert (others.difference_high >= 0).all()
    assert len(table.attrs["continuations"]) == 6
    pd.testing.assert_frame_equal(table, redraw(answering, reply, n=40, seed=2).set_index("step"))


def test_who_says_the_same_again_takes_nothing_away(answering: Model, reply: Reply) -> None:
    def same(step: str, said: str) -> float:
        return float(step == said)

    table = redraw(answering, reply, n=20, seed=2, similarity=same).set_index("step")
    assert table.different.between(12, 20).all()  # nine digits in ten are others


# Budgets, interrupts, resumption


@pytest.mark.parametrize("experiment", [force, err, redraw], ids=["forced_answer", "mistakes", "resample"])
def test_a_budget_is_kept_and_the_rest_done_on_resuming(answering: Model, reply: Reply, experiment, capsys) -> None:
    options = {"n": 4} if experiment is redraw else {}
    whole = experiment(answering, reply, **options)
    some = next(n for n in range(10, 10_000, 5) if not _refused(experiment, answering, reply, n, options))
    part = experiment(answering, reply, budget_tokens=2 * some, **{**options, "progress": True})
    said = capsys.readouterr().out
    assert re.match(r"[\w ,]+, \d steps: about [\d,]+ tokens, [\d.]+ \w+; the budget is enough for \d of them\.", said)
    assert "To go on: the same call with resume=table." in said
    assert not part.attrs["complete"]
    assert len(part) < len(whole)
    pd.testing.assert_frame_equal(experiment(answering, reply, resume=part, **options), whole)
    with pytest.raises(ValueError, match="other arguments"):
        experiment(answering, reply, resume=part, seed=8, **options)


def _refused(experiment, model: Model, reply: Reply, budget: int, options: dict) -> bool:
    try:
        experiment(model, reply, budget_tokens=budget, budget_seconds=0.0, **options)
    except ValueError as error:
        assert "does not pay for the first step" in str(error)
        return True
    return False


def test_an_interrupt_returns_what_is_done(answering: Model, reply: Reply, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = force(answering, reply)
    passes = 0
    plain = Transformer.__call__

    def interrupted(self, *arguments, **options):
        nonlocal passes
        passes += 1
        if passes == 9:
            raise KeyboardInterrupt
        return plain(self, *arguments, **options)

    monkeypatch.setattr(Transformer, "__call__", interrupted)
    part = force(answering, reply)
    assert 0 < len(part) < 6
    monkeypatch.undo()
    pd.testing.assert_frame_equal(force(answering, reply, resume=part), whole)


def test_a_thought_is_wanted(answering: Model, reply: Reply) -> None:
    thoughts = lab.ThoughtLab(answering, "Which?", seed=5)
    thoughts.run()
    nothing = thoughts.truncate(0)
    with pytest.raises(ValueError, match="the reply has no thought"):
        force(answering, nothing.reply)
    assert [step.text for step in thinking_of(answering, reply).steps] == reply.thought.splitlines(keepends=True)
    assert thinking_of(answering, reply).answer == reply.text


def test_the_lab_has_them_as_verbs(answering: Model, reply: Reply) -> None:
    layer, head = TRUTH.reader
    thoughts = lab.ThoughtLab(answering, "Which?", seed=5, effort="medium")
    first = thoughts.run()
    assert first.reply.tokens == reply.tokens
    pd.testing.assert_frame_equal(thoughts.forced_answer(progress=False), force(answering, reply))
    pd.testing.assert_frame_equal(thoughts.mistakes(rest="keep", progress=False), err(answering, reply, rest="keep"))
    pd.testing.assert_frame_equal(thoughts.resample(n=3, progress=False), redraw(answering, reply, n=3))
    blind = thoughts.change(edits=edits.ablate_head(head, layer), at=len(first) - 2, max_new_tokens=2)
    with answering.edit(edits.ablate_head(3, 0)):
        table = thoughts.forced_answer(blind, progress=False)
    np.testing.assert_allclose(table.probability, 0.1, atol=1e-2)
    assert len(thoughts.forced_answer(0, progress=False)) == 6


def test_intervals() -> None:
    assert wilson(8, 10) == pytest.approx((0.490, 0.943), abs=1e-3)
    assert wilson(0, 20)[0] == 0
    assert all(math.isnan(bound) for bound in wilson(0, 0))
    low, high = bootstrap_mean([0, 1] * 50, seed=0)
    assert low == pytest.approx(0.4, abs=0.03)
    assert high == pytest.approx(0.6, abs=0.03)
    assert all(math.isnan(bound) for bound in bootstrap_mean([1.0], seed=0))
