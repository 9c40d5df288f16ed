"""Sweeps: the right experts and heads stand out, budgets and interrupts are kept, and shortcuts change nothing."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from small import BYTES, SMALL

import gptoss_lab as lab
from gptoss_lab import edits, planted
from gptoss_lab import weights as weights_module
from gptoss_lab.experiments.answering import Sampling, answer_all
from gptoss_lab.harmony import Message
from gptoss_lab.model import Transformer
from gptoss_lab.ops import ENGINES
from gptoss_lab.reply import Reply
from gptoss_lab.session import Model

TRUTH = planted.build("answer").truth

sweep = partial(lab.sweep, progress=False)


@pytest.fixture(params=ENGINES, scope="module")
def answering(request: pytest.FixtureRequest) -> Model:
    """It thinks of five digits, and answers with the third: see `planted.answer`."""
    return lab.load("planted:answer", engine=request.param)


@pytest.fixture(scope="module")
def replies(answering: Model) -> list[Reply]:
    questions = ["Which?", "Which one?", "Who are you, then?"]
    return [answering.chat(q, temperature=1.0, seed=s, max_new_tokens=60) for s, q in enumerate(questions)]


@pytest.fixture(scope="module")
def rambling() -> Model:
    config = replace(SMALL, d_vocab=264, n_layers=2, n_ctx=512)
    return Model(Transformer(config, weights_module.random(config, seed=7), "torch"), BYTES, "rambling")


@pytest.fixture(scope="module")
def ramblings(rambling: Model) -> list[Reply]:
    return [rambling.chat(q, seed=s, max_new_tokens=n) for s, (q, n) in enumerate([("Hi", 9), ("Ho", 9), ("Hum", 12)])]


def effect(model: Model, reply: Reply, edit: edits.Edits) -> float:
    """Measured without any shortcut: both runs whole."""
    tokens = [*reply.prompt_tokens, *reply.tokens]
    p = model(tokens)[0, len(reply.prompt_tokens) - 1 : -1].double().log_softmax(-1)
    with model.edit(edit):
        q = model(tokens)[0, len(reply.prompt_tokens) - 1 : -1].double().log_softmax(-1)
    return float((p.exp() * (p - q)).sum(-1).mean())


def test_the_heads_of_the_mechanism_stand_out(answering: Model, replies: list[Reply]) -> None:
    table = sweep(answering, replies, "heads")
    assert list(table.columns) == ["layer", "index", "effect", "n", "low", "high"]
    assert list(zip(table.layer, table["index"], strict=True)) == [
        (layer, head) for layer in (0, 1) for head in range(4)
    ]
    effects = {(row.layer, row.index): row.effect for row in table.itertuples(index=False)}
    mechanism = {TRUTH.previous_token_head, TRUTH.reader, TRUTH.thought_head}
    assert {unit for unit, effect in effects.items() if effect > 0.01} == mechanism
    assert all(abs(effect) < 1e-6 for unit, effect in effects.items() if unit not in mechanism)
    assert effects[TRUTH.reader] == pytest.approx(math.log(10) / len(replies[0].tokens), rel=0.01)
    assert set(table.n) == {3}
    assert table.attrs["complete"]


def test_the_experts_that_think_stand_out(answering: Model, replies: list[Reply]) -> None:
    table = sweep(answering, replies[0], layers=[1])
    assert set(table["index"][table.effect > 0.01]) == set(TRUTH.expert_of_class.values())
    assert table.low.isna().all()  # of one prompt, no interval
    masked = sweep(answering, replies[0], layers=[1], edit=edits.mask_expert, channel="final")
    digit, control = TRUTH.expert_of_class["digit"], TRUTH.expert_of_class["control"]
    assert set(masked["index"][masked.effect > 0.01]) <= {digit, control}


SPEAKING = {
    "previous-token": lambda truth: {truth.speaks},
    "sink-parking": lambda truth: {truth.speaks},
    "induction": lambda truth: {truth.previous_token_head, truth.induction_head},
    "reads-one": lambda truth: {truth.previous_token_head, truth.reader},
}
"""The heads without which a planted model says something else."""


@pytest.mark.parametrize("name", SPEAKING)
def test_the_heads_that_decide_are_found_in_every_planted_model(name: str) -> None:
    model = lab.load(f"planted:{name}", engine="torch")
    said = "abcab! Keep 7 safe. abcabc"
    conversation = [Message("user", "Go"), Message("assistant", said, channel="final")]
    table = sweep(model, [conversation], "heads")
    moved = {(row.layer, row.index) for row in table.itertuples(index=False) if row.effect > 0.05}
    assert moved == SPEAKING[name](planted.build(name).truth)
    rest = [row.effect for row in table.itertuples(index=False) if (row.layer, row.index) not in moved]
    assert np.abs(rest).max() < 1e-3


def test_the_experts_that_decide_are_found_where_each_serves_a_class_of_tokens() -> None:
    """In `planted.routing` the last layer speaks loudest, and each token's first expert there decides."""
    model = lab.load("planted:routing", engine="torch")
    known = planted.build("routing").truth
    conversation = [Message("user", "Go"), Message("assistant", "777777", channel="final")]
    table = sweep(model, [conversation], layers=[2]).set_index("index")
    trace = model.trace(conversation)
    last_asked = len(trace.token_ids) - 2
    deciding = {
        int(known.experts(trace.token_ids.tolist())[2, place, 0]) for place in range(last_asked - 6, last_asked)
    }
    assert set(table.index[table.effect > 1]) == deciding
    of_digits = int(known.expert_of_class[2, known.classes.index("digit")])
    assert table.effect.idxmax() == of_digits


def test_lost_answers_are_counted(answering: Model) -> None:
    questions = ["Which?", "Who are you?", "What?"]
    said = [answering.chat(q, temperature=1.0, seed=7 + n, max_new_tokens=40).text for n, q in enumerate(questions)]
    pairs = list(zip(questions, [*said[:2], "none"], strict=True))  # the last is wrong with and without edits
    count = partial(sweep, answering, kind="heads", metric="accuracy", temperature=1.0, seed=7, max_new_tokens=40)
    lost = {(row.layer, row.index): row.effect for row in count(pairs).itertuples(index=False)}
    assert lost[TRUTH.thought_head] == pytest.approx(2 / 3)  # it never comes to an answer
    assert lost[0, 1] == lost[1, 1] == lost[1, 3] == 0
    table = count(pairs, layers=[1], is_right=lambda text, answer: text.isdigit())
    assert table.effect.tolist() == [float((1, head) == TRUTH.thought_head) for head in range(4)]
    wrong_made_right = count(pairs, layers=[1], is_right=lambda text, answer: not text)
    assert wrong_made_right.effect.tolist() == [-float((1, head) == TRUTH.thought_head) for head in range(4)]


@pytest.mark.parametrize(
    "where", [{}, {"channel": "final"}, {"positions": slice(100, None)}, {"positions": 3}], ids=str
)
def test_shortcuts_change_nothing(rambling: Model, ramblings: list[Reply], where: dict) -> None:
    for prompts in (ramblings, ramblings[:1], [ramblings[2]] * 2):
        table = sweep(rambling, prompts, layers=[1], **where)
        for row in table.itertuples(index=False):
            expected = [
                effect(rambling, reply, edits.ablate_expert(row.index, row.layer, **where)) for reply in prompts
            ]
            assert row.effect == pytest.approx(np.mean(expected), abs=1e-6)


def test_what_no_edit_changes_is_not_run_again(
    rambling: Model, ramblings: list[Reply], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[tuple[int, int]] = []
    plain = Transformer._forward
    monkeypatch.setattr(
        Transformer,
        "_forward",
        lambda self, tokens, *rest: (sizes.append(tuple(tokens.shape)), plain(self, tokens, *rest))[1],
    )

    def passes(**where) -> list[tuple[int, int]]:
        """Of the last row."""
        sizes.clear()
        sweep(rambling, ramblings, layers=[0], **where)
        return sizes[-3:]

    prompts = [reply.prompt_tokens for reply in ramblings]
    shared = next(n for n, column in enumerate(zip(*prompts, strict=False)) if len(set(column)) > 1)
    rest = [len(reply.prompt_tokens) + len(reply.tokens) - 1 - shared for reply in ramblings]
    assert passes() == [(1, shared), (2, rest[0]), (1, rest[2])]  # "Hi" and "Ho" are a batch
    assert passes(positions=slice(len(prompts[0]) - 1, None))[-2:] == [(2, 9), (1, 13)]


def test_an_interval_is_the_same_for_the_same_seed_and_holds_the_mean(rambling: Model, ramblings: list[Reply]) -> None:
    table, again = (sweep(rambling, ramblings, "heads", seed=4) for _ in range(2))
    pd.testing.assert_frame_equal(table, again)
    assert (table.low <= table.effect).all()
    assert (table.effect <= table.high).all()
    assert (table.low < table.high).all()


def test_a_sweep_says_first_what_it_will_take(rambling: Model, ramblings: list[Reply], capsys) -> None:
    table = lab.sweep(rambling, ramblings, "heads")
    said, bar = capsys.readouterr()
    assert said.startswith("Sweep over 8 heads, one at a time: about ")
    assert " tokens, " in said
    assert "second" in said
    assert "8/8" in bar
    assert len(table) == 8


def test_a_budget_is_kept_and_the_rest_done_on_resuming(rambling: Model, ramblings: list[Reply], capsys) -> None:
    whole = sweep(rambling, ramblings, "heads")
    each = tokens_of_one_row(rambling, ramblings)
    part = lab.sweep(rambling, ramblings, "heads", budget_tokens=3 * each + 1)
    said = capsys.readouterr().out
    assert f"about {8 * each:,} tokens" in said
    assert "the budget is enough for 3 of them" in said
    assert "3 of 8 heads are done. To go on: sweep(..., resume=table)." in said
    assert len(part) == 3
    assert not part.attrs["complete"]
    rest = sweep(rambling, ramblings, "heads", resume=part)
    pd.testing.assert_frame_equal(rest, whole)
    assert rest.attrs["complete"]
    nothing = sweep(rambling, ramblings, "heads", budget_seconds=0.0)
    assert len(nothing) == 0
    with pytest.raises(ValueError, match=f"does not pay for a single row, which takes {each}"):
        sweep(rambling, ramblings, "heads", budget_tokens=each - 1)


def tokens_of_one_row(model: Model, replies: list[Reply]) -> int:
    prompts = [reply.prompt_tokens for reply in replies]
    shared = next(n for n, column in enumerate(zip(*prompts, strict=False)) if len(set(column)) > 1)
    return shared + sum(len(reply.prompt_tokens) + len(reply.tokens) - 1 - shared for reply in replies)


def test_an_interrupt_returns_what_is_done_and_no_work_is_done_twice(
    rambling: Model, ramblings: list[Reply], capsys
) -> None:
    tried: list[tuple[int, int]] = []

    class Interrupting(Model):
        def edit(self, *changes):
            tried.append((*edits.flat(changes)[0].layers, *edits.flat(changes)[0].heads))
            if len(tried) == 5:  # the first is the measured one
                raise KeyboardInterrupt
            return super().edit(*changes)

    model = Interrupting(rambling.transformer, BYTES, "rambling")
    part = lab.sweep(model, ramblings, "heads")
    assert "3 of 8 heads are done" in capsys.readouterr().out
    done = set(zip(part.layer, part["index"], strict=True))
    assert done == set(tried[1:4])
    assert model.edits == ()
    first, tried[:] = list(tried), [None] * 9
    whole = sweep(model, ramblings, "heads", resume=part)
    assert set(tried[10:]) == set(first[4:5]) | ({(layer, head) for layer in range(2) for head in range(4)} - done)
    pd.testing.assert_frame_equal(whole, sweep(rambling, ramblings, "heads"))


def test_another_sweeps_table_is_not_resumed(rambling: Model, ramblings: list[Reply], tmp_path) -> None:
    part = sweep(rambling, ramblings, "heads", layers=[0])
    for other in (
        {"seed": 1},
        {"layers": [1]},
        {"layers": [0], "channel": "final"},
        {"layers": [0], "edit": edits.remove_sink},
    ):
        with pytest.raises(ValueError, match="a sweep with other arguments"):
            sweep(rambling, ramblings, "heads", resume=part, **other)
    with pytest.raises(ValueError, match="other arguments"):
        sweep(rambling, ramblings[:2], "heads", layers=[0], resume=part)
    with rambling.edit(edits.mask_expert(1)), pytest.raises(ValueError, match="other arguments"):
        sweep(rambling, ramblings, "heads", layers=[0], resume=part)
    part.to_csv(tmp_path / "part.csv", index=False)
    read = pd.read_csv(tmp_path / "part.csv")
    pd.testing.assert_frame_equal(sweep(rambling, ramblings, "heads", layers=[0], resume=read), part)


def test_questions_and_conversations_serve_as_replies_do(rambling: Model) -> None:
    reply = rambling.chat("Hi", temperature=0, max_new_tokens=5)
    table = sweep(rambling, "Hi", "heads", max_new_tokens=5)
    pd.testing.assert_frame_equal(table, sweep(rambling, [reply], "heads"))
    said = [Message("user", "Hi"), Message("assistant", "Hm.", "analysis"), Message("assistant", "Ho.", "final")]
    head = sweep(rambling, said, "heads", layers=[1])
    tokens = BYTES.encode(
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Ho.<|end|>",
        allowed_special="all",
    )
    as_reply = replace(reply, tokens=tokens)
    pd.testing.assert_frame_equal(head, sweep(rambling, as_reply, "heads", layers=[1]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: sweep(model, "Hi", "neurons"), "kind is one of experts, heads; got 'neurons'"),
        (lambda model: sweep(model, "Hi", metric="taste"), "metric is one of kl, accuracy; got 'taste'"),
        (lambda model: sweep(model, []), "there are no prompts"),
        (lambda model: sweep(model, [3]), "a prompt is a question, messages or a reply; got '3'"),
        (
            lambda model: sweep(model, [("Hi", "Ho")]),
            r"a prompt is a question, messages or a reply; got \"\('Hi', 'Ho'\)\"",
        ),
        (lambda model: sweep(model, ["Hi"], metric="accuracy"), "pairs of a prompt and its right answer; got 'Hi'"),
        (lambda model: sweep(model, "Hi", layers=[2]), "no layer 2"),
        (lambda model: sweep(model, "Hi", channel="finale"), "did you mean 'final'"),
        (lambda model: sweep(model, "Hi", max_new_tokens=0), "at least 1; got 0"),
        (lambda model: sweep(model, "Hi", temperature=-1), "temperature must be 0 or more"),
        (lambda model: sweep(model, " "), "question is empty"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_runs(rambling: Model, monkeypatch, call, message: str) -> None:
    monkeypatch.setattr(Transformer, "__call__", lambda *args, **options: pytest.fail("it ran"))
    with pytest.raises(ValueError, match=message):
        call(rambling)


def test_answers_in_a_batch_are_those_that_each_gets_alone(rambling: Model) -> None:
    prompts = [BYTES.encode(text) for text in ("abcd", "efgh", "ijkl")]
    samplings = [Sampling(1.0, seed, n) for seed, n in ((1, 3), (2, 9), (3, 6))]
    caches = [rambling.transformer.new_cache() for _ in prompts]
    together = answer_all(rambling, prompts, caches, samplings)
    assert [len(reply) for reply in together] == [3, 9, 6]
    for prompt, sampling, reply in zip(prompts, samplings, together, strict=True):
        alone = rambling.generate(prompt, sampling.max_new_tokens, 1.0, seed=sampling.seed)
        assert alone.tokens == reply
