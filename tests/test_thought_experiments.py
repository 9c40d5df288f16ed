"""Experiments on thoughts: where a model answers with one digit of its thought, that step counts and no other."""

import json
import math
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small import BYTES, SMALL

import gptoss_lab as lab
from gptoss_lab import edits, planted
from gptoss_lab import weights as weights_module
from gptoss_lab.experiments.adding_mistakes import mistakes
from gptoss_lab.experiments.corruption import corrupt
from gptoss_lab.experiments.early_answering import forced, forced_answer
from gptoss_lab.experiments.effort import by_effort
from gptoss_lab.experiments.faithfulness_report import faithfulness
from gptoss_lab.experiments.intervals import bootstrap_mean, wilson
from gptoss_lab.experiments.receiving import receiver_heads
from gptoss_lab.experiments.resampling import resample
from gptoss_lab.experiments.step_routing import kind_of_step, routing_by_channel, routing_by_step
from gptoss_lab.experiments.suppressing import suppress
from gptoss_lab.experiments.thinking import thinking_of
from gptoss_lab.harmony import Message, Span, StreamParser, developer_message
from gptoss_lab.model import Transformer
from gptoss_lab.reply import Reply
from gptoss_lab.segments import Segment, segments
from gptoss_lab.session import Model

TRUTH = planted.build("answer").truth
KEPT = TRUTH.kept_sentence + 1
"""The step that decides the answer, counted from 1."""

force, err, redraw, hide = (
    partial(experiment, progress=False) for experiment in (forced_answer, mistakes, resample, suppress)
)


@pytest.fixture(scope="module")
def answering() -> Model:
    """It thinks of five digits, and answers with the third: see `planted.answer`."""
    return lab.load("planted:answer", engine="torch")


@pytest.fixture(scope="module")
def reply(answering: Model) -> Reply:
    return answering.chat("Which?", temperature=1.0, seed=5, max_new_tokens=60)


@pytest.fixture(scope="module")
def rambling() -> Model:
    """Random weights: everything depends on everything."""
    config = replace(SMALL, d_vocab=264, n_layers=2, n_ctx=512)
    return Model(Transformer(config, weights_module.random(config, seed=7), "torch"), BYTES, "rambling")


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


# Suppressed attention


def test_what_nobody_looks_at_changes_the_answer_alone(answering: Model, reply: Reply) -> None:
    table = suppress(answering, reply, progress=False)
    matrix = table.pivot(index="on", columns="step", values="kl")
    assert matrix.shape == (5, 5)
    influence = {(step, on) for on in matrix.index for step in matrix.columns if matrix.loc[on, step] > 1e-6}
    assert influence == {(KEPT, 6)}  # the answer counts as the sixth
    assert matrix.loc[6, KEPT] == pytest.approx(math.log(10) / 2, rel=0.01)  # of its two tokens, one is drawn anew
    assert table[table.on == 6].on_text.tolist() == [reply.text] * 5
    assert matrix.isna().sum().sum() == 10  # no step changes itself, or an earlier one
    assert (table.low <= table.kl + 1e-9).all()
    assert (table.kl <= table.high + 1e-9).all()


def test_suppressing_is_knocking_out_and_reading_again(rambling: Model) -> None:
    tokens = rambling.tokenizer.encode(
        "<|channel|>analysis<|message|>One. Two is. 3?<|end|><|start|>assistant<|channel|>final<|message|>4<|return|>",
        allowed_special="all",
    )
    reply = rambling.chat("Hi", max_new_tokens=1)
    spans = StreamParser(rambling.tokenizer, messages_so_far=2)
    for token in tokens:
        spans.push(token)
    reply = replace(reply, tokens=tokens, spans=spans.spans, messages=spans.messages)
    table = suppress(rambling, reply, renormalise=True, progress=False)
    steps = thinking_of(rambling, reply).steps
    ids = [*reply.prompt_tokens, *tokens]
    before = rambling(ids)[0].double().log_softmax(-1)
    for step in steps:
        edit = edits.knock_out_attention(slice(step.stop, None), slice(step.start, step.stop), renormalise=True)
        with rambling.edit(edit):
            after = rambling(ids)[0].double().log_softmax(-1)
        moved = (before.exp() * (before - after)).sum(-1)
        for row in table[table.step == step.number].itertuples():
            of_target = steps[row.on - 1] if row.on <= len(steps) else None
            start, stop = (of_target.start, of_target.stop) if of_target else (len(ids) - 2, len(ids))
            assert row.kl == pytest.approx(float(moved[start - 1 : stop - 1].mean()), abs=1e-5)
            assert row.n == stop - start


# Receiver heads


def test_the_head_that_reads_receives(answering: Model, reply: Reply) -> None:
    table = receiver_heads(answering, reply)
    assert list(table.columns) == ["layer", "head", "kurtosis", "low", "high", "sink", "step", "text", "score", "n"]
    best = table.iloc[0]
    assert (best.layer, best["head"]) == TRUTH.reader
    assert best.step == KEPT
    assert best.score == pytest.approx(1 / 4, abs=1e-3)  # all of it, on one of the step's four tokens
    assert best["kurtosis"] == pytest.approx(0.25, abs=1e-3)  # the most that five can have
    positions = np.arange(len(reply.prompt_tokens), len(reply.prompt_tokens) + len(reply.tokens))
    truth = TRUTH.attention([*reply.prompt_tokens, *reply.tokens])
    thought = [
        n
        for n, span in zip(positions, reply.spans, strict=True)
        if span.channel == "analysis" and span.section == "content"
    ]
    for row in table.itertuples():
        rests = 1 - truth[row.layer, row.head][thought].sum(axis=-1).mean()
        assert row.sink == pytest.approx(rests, abs=1e-3)
    blank = table[(table.layer == 0) & (table["head"] == 1)].iloc[0]
    bare = receiver_heads(answering, reply, without_sink=True)
    without = bare[(bare.layer == 0) & (bare["head"] == 1)].iloc[0]
    assert without.score > blank.score  # what the sink took is shared out
    far = receiver_heads(answering, reply, distance=4)
    assert set(far.n) == {2}
    assert far["kurtosis"].isna().all()  # of two steps there is none


# Routing by step


def test_classes_of_tokens_go_to_their_experts(answering: Model, reply: Reply) -> None:
    table = routing_by_step(answering, reply, seed=1)
    assert set(table.kind) == {"other", "answering"}
    assert table.groupby(["kind", "layer"]).share.sum().to_numpy() == pytest.approx(2)
    expert = TRUTH.expert_of_class
    row = table[(table.kind == "other") & (table.layer == 1)].set_index("expert")
    assert row.share[expert["digit"]] == pytest.approx(0.25, abs=0.01)  # "Keep ", "4", " safe", ".\n"
    assert row.share[expert["letter"]] == pytest.approx(0.5, abs=0.01)
    assert row.n.unique() == [5]
    last = table[(table.kind == "answering") & (table.layer == 1)].set_index("expert")
    assert last.share[expert["digit"]] == 1
    assert last.share[expert["digit"]] >= last.control_high[expert["digit"]]
    assert last.control_low[expert["digit"]] < 0.3  # most steps that chance picks are others
    by_step = routing_by_step(answering, reply, label=lambda step: f"step {step.number}")
    assert len(set(by_step.kind)) == 6


def test_channels_are_held_against_chance(answering: Model, reply: Reply) -> None:
    questions = ["Which?", "Which one?", "Who are you?", "What?", "Why?"]
    replies = [answering.chat(q, temperature=1.0, seed=n, max_new_tokens=60) for n, q in enumerate(questions)]
    table = routing_by_channel(answering, replies, seed=1)
    assert table.layer.tolist() == [0, 1]
    assert table.distance[0] == 0  # layer 0 does not route at all
    assert table.p[0] == 1
    assert table.distance[1] > table.control_high[1]
    assert table.p[1] < 0.02
    assert table.n.tolist() == [30, 30]
    one = routing_by_channel(answering, reply)
    assert one.p[1] > 0.1  # of six steps, one is the answer: chance alone picks it one time in six
    with pytest.raises(ValueError, match="nothing is said in the commentary channel"):
        routing_by_channel(answering, reply, channels=("analysis", "commentary"))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("We need to add two numbers.", "planning"),
        ("Units: 8 + 7 = 15, write 5, carry 1.", "computing"),
        ("Wait, let me check that.", "checking"),
        ("Together: 95.", "answering"),
        ("The sky is blue.", "other"),
    ],
)
def test_kinds_of_steps(text: str, kind: str) -> None:
    assert kind_of_step(Segment(1, 0, 1, text, 0, "analysis")) == kind
    assert kind_of_step(Segment(1, 0, 1, text, 0, "final")) == "answering"


# Efforts


def test_efforts_side_by_side(answering: Model) -> None:
    table = by_effort(answering, "Which?", n=12, max_new_tokens=60, progress=False)
    assert table.effort.tolist() == ["low", "medium", "high"]
    assert (table.ended == 1).all()
    assert (table.thought_tokens == 20).all()  # five sentences of four tokens, whatever the effort
    assert (table.tokens == 31).all()
    assert (table.right <= 0.6).all()  # any digit
    right = by_effort(answering, "Which?", "3", n=12, max_new_tokens=60, progress=False)
    for row in right.itertuples():
        answers = table.attrs["answers"][row.effort]
        assert row.right == answers.count("3") / 12
    cut = by_effort(answering, "Which?", n=2, max_new_tokens=9, progress=False)
    assert (cut.ended == 0).all()
    assert (cut.answer == "").all()
    with pytest.raises(ValueError, match="a system message of its own"):
        by_effort(answering, [Message("system", "Hm."), Message("user", "Hi")])


# Faithfulness


def test_a_report_says_when_answers_are_settled_and_by_what(answering: Model) -> None:
    questions = ["Which?", "Which one?", "Who are you?", "What?"]
    replies = [answering.chat(q, temperature=1.0, seed=n, max_new_tokens=60) for n, q in enumerate(questions)]
    short = answering.chat("Why?", temperature=1.0, seed=0, max_new_tokens=9)
    report = faithfulness(answering, [*replies, short], mistakes_each=2, max_new_tokens=60, progress=False)
    table = report.table
    assert table.question.tolist() == questions
    assert table.answer.tolist() == [reply.text for reply in replies]
    assert (table.carrier == KEPT).all()
    assert table.jump.to_numpy() == pytest.approx(0.9, abs=1e-2)
    assert table.probability_at_once.to_numpy() == pytest.approx(0.1, abs=1e-2)
    others = table[~table.at_once]  # a digit in ten is right by chance
    assert len(others) >= 2
    assert (others.settled == KEPT).all()
    assert (table.mistakes == 2).all()
    assert len(report.curves) == 4 * 6
    assert len(report.mistakes) == 8
    said = str(report)
    assert "4 of 5 questions were examined. 1 more came without a thought or an answer" in said
    assert f"{int(table.at_once.sum())} of 4" in said
    assert f"step {KEPT} of the thought on 'Wh" in said
    assert "What this cannot show:" in said
    part = faithfulness(answering, [short, *replies], max_new_tokens=60, progress=False, budget_tokens=100)
    assert not part.complete
    assert part.findings() == ["Nothing has been examined yet."]  # the first came without a thought


def test_the_replies_of_a_report_are_paid_from_its_budget(answering: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    plain = Model.chat

    def chat(self: Model, prompt: str, *arguments, **options) -> Reply:
        asked.append(prompt)
        return plain(self, prompt, *arguments, **options)

    monkeypatch.setattr(Model, "chat", chat)
    questions = ["Which?", "Who?", "What?"]
    report = partial(
        faithfulness, answering, questions, temperature=1.0, mistakes_each=1, max_new_tokens=60, progress=False
    )
    price = price_of_first(report)
    assert price > len(answering.chat("Which?", "high", temperature=1.0, max_new_tokens=60, seed=0).prompt_tokens) + 31
    assert asked.pop() == "Which?"
    assert asked == []  # it was refused before anything was asked
    part = report(budget_tokens=price)
    assert (len(part.table), part.complete, asked) == (1, False, ["Which?"])
    spent = part.rows[0]["spent"]
    assert len(report(budget_tokens=price + spent).table) == 2  # by what the first took, not by what was feared
    asked.clear()
    whole = report(resume=part.table)
    assert asked == ["Who?", "What?"]
    pd.testing.assert_frame_equal(whole.table, report().table)


def test_without_thoughts_there_is_nothing_to_report(answering: Model) -> None:
    with pytest.raises(ValueError, match="there are no questions"):
        faithfulness(answering, [])
    with pytest.raises(ValueError, match="none of the questions is answered with a thought"):
        faithfulness(answering, "Which?", max_new_tokens=3, progress=False)


# Budgets, interrupts, resumption


def price_of_first(run) -> int:
    """What the first unit of work takes, in tokens: a smaller budget is refused."""
    with pytest.raises(ValueError, match=r"budget_tokens=1 does not pay for the first \w+: \d+") as refused:
        run(budget_tokens=1)
    return int(str(refused.value).split(": ")[-1])


BUDGETED = {
    "forced_answer": (forced_answer, {}, {"by": "message"}),
    "mistakes": (mistakes, {"rest": "keep"}, {"rest": "anew"}),
    "resample": (resample, {"n": 3}, {"n": 4}),
    "suppress": (suppress, {}, {"seed": 8}),
    "receiver_heads": (receiver_heads, {}, {"distance": 2}),
    "routing_by_step": (routing_by_step, {"n_permutations": 50}, {"by": "message"}),
    "routing_by_channel": (routing_by_channel, {"n_permutations": 50}, {"by": "message"}),
    "by_effort": (by_effort, {"n": 2, "max_new_tokens": 40}, {"n": 3}),
}
"""Every experiment, how it is called here, and what makes another call of it."""


@pytest.fixture(scope="module")
def three_replies(answering: Model) -> list[Reply]:
    return [answering.chat(q, temperature=1.0, seed=5, max_new_tokens=60) for q in ("Which?", "Who?", "What?")]


@pytest.fixture(params=BUDGETED)
def budgeted(request: pytest.FixtureRequest, answering: Model, reply: Reply, three_replies: list[Reply]):
    """An experiment, ready to be called, and the arguments that make another call of it."""
    experiment, options, other = BUDGETED[request.param]
    of = {"by_effort": "Which?", "routing_by_step": three_replies, "routing_by_channel": three_replies}
    return partial(experiment, answering, of.get(request.param, reply), **options), other


def test_a_budget_is_kept_and_the_rest_done_on_resuming(budgeted, capsys) -> None:
    run, other = budgeted
    whole = run(progress=False)
    part = run(budget_tokens=price_of_first(run))
    said, bar = capsys.readouterr()
    promised = r"\w.*, \d (steps|replies|efforts): about [\d,]+ tokens, [\w. ]+; the budget is enough for 1 of them\."
    assert re.search(promised, said)
    assert "To go on: the same call with resume=table." in said
    assert "it/s" in bar or "/it" in bar or "?" in bar
    assert (len(part.attrs["rows"]), part.attrs["complete"]) == (1, False)
    assert len(part)
    assert whole.attrs["complete"]
    part.attrs = json.loads(json.dumps(part.attrs))  # as a file has it
    pd.testing.assert_frame_equal(run(resume=part, progress=False), whole)
    pd.testing.assert_frame_equal(run(resume=whole, progress=False), whole)
    with pytest.raises(ValueError, match="other arguments"):
        run(resume=part, **other)
    with pytest.raises(ValueError, match=r"budget_seconds=0\.0 does not pay for the first \w+, which takes about"):
        run(budget_seconds=0.0, progress=False)


def test_an_interrupt_returns_what_is_done(budgeted, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = budgeted
    passes, last = 0, math.inf
    plain = Transformer.__call__

    def interrupted(self, *arguments, **options):
        nonlocal passes
        passes += 1
        if passes == last:
            raise KeyboardInterrupt
        return plain(self, *arguments, **options)

    monkeypatch.setattr(Transformer, "__call__", interrupted)
    whole = run(progress=False)
    last, passes = passes, 0
    part = run(progress=False)
    assert 0 < len(part.attrs["rows"]) < len(whole.attrs["rows"])
    passes, last = 0, math.inf
    pd.testing.assert_frame_equal(run(resume=part, progress=False), whole)
    passes, last = 0, 1
    with pytest.raises(KeyboardInterrupt):  # there is nothing to return
        run(progress=False)


def test_an_interrupt_within_a_question_of_a_report_leaves_it_unexamined(
    answering: Model, three_replies: list[Reply], monkeypatch: pytest.MonkeyPatch
) -> None:
    report = partial(faithfulness, answering, three_replies, mistakes_each=2, max_new_tokens=60, progress=False)
    whole = report()
    passes = last = 0
    plain = Transformer.__call__

    def interrupted(self, *arguments, **options):
        nonlocal passes
        passes += 1
        if passes == last:
            raise KeyboardInterrupt
        return plain(self, *arguments, **options)

    monkeypatch.setattr(Transformer, "__call__", interrupted)
    report()
    each = passes // 3
    for moment in range(each + each // 8, 3 * each, each // 2):  # within forced answers, and within mistakes
        passes, last = 0, moment
        part = report()
        assert 0 < len(part.rows) < 3
        assert all(repr(row) == repr(whole.rows[number]) for number, row in part.rows.items())
    last = 0
    pd.testing.assert_frame_equal(report(resume=part.table).table, whole.table)


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
    heads, steps, channels = (
        partial(one, progress=False) for one in (receiver_heads, routing_by_step, routing_by_channel)
    )
    thoughts = lab.ThoughtLab(answering, "Which?", seed=5, effort="medium")
    first = thoughts.run()
    assert first.reply.tokens == reply.tokens
    pd.testing.assert_frame_equal(thoughts.forced_answer(progress=False), force(answering, reply))
    pd.testing.assert_frame_equal(thoughts.mistakes(rest="keep", progress=False), err(answering, reply, rest="keep"))
    pd.testing.assert_frame_equal(thoughts.resample(n=3, progress=False), redraw(answering, reply, n=3))
    pd.testing.assert_frame_equal(thoughts.suppress(progress=False), suppress(answering, reply, progress=False))
    pd.testing.assert_frame_equal(thoughts.receiver_heads(progress=False), heads(answering, reply))
    pd.testing.assert_frame_equal(thoughts.routing_by_step(progress=False), steps(answering, reply))
    pd.testing.assert_frame_equal(thoughts.routing_by_channel(progress=False), channels(answering, reply))
    report = thoughts.faithfulness(mistakes_each=1, max_new_tokens=60, progress=False)
    assert (report.table.carrier.tolist(), report.n_asked) == ([KEPT], 1)
    told = thoughts.change(instructions="Keep 3 at hand.", go_on=False, of=0)
    efforts = thoughts.by_effort("3", told, n=2, max_new_tokens=60, progress=False)
    conversation = [developer_message("Keep 3 at hand."), Message("user", "Which?")]
    same = by_effort(answering, conversation, "3", n=2, max_new_tokens=60, progress=False)
    pd.testing.assert_frame_equal(efforts, same)
    blind = thoughts.change(edits=edits.ablate_head(head, layer), at=len(first) - 2, max_new_tokens=2, of=0)
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


def test_a_report_becomes_a_page_on_which_nothing_is_markup(answering: Model, tmp_path: Path) -> None:
    question = "Which <script>alert(1)</script> & which?\u202e"
    reply = answering.chat(question, temperature=1.0, seed=1, max_new_tokens=60)
    report = faithfulness(answering, reply, mistakes_each=1, max_new_tokens=60, progress=False)
    page = report.to_html(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "Which &lt;script&gt;alert(1)&lt;/script&gt; &amp; which?⟨U+202E⟩" in page
    assert page.count("<svg") == page.count("<polyline") == 2, "one line in the picture, and one in the table"
    assert page.count('class="dot"') == len(report.shares()) == 3
    assert "{" not in page.split("</style>")[1]
    for words in ("1 of 1 questions", "What this cannot show", "was not trained to be shown to end users"):
        assert words in page
    shares = report.shares().set_index("what")
    assert (shares.low <= shares.share).all()
    assert (shares.share <= shares.high).all()
