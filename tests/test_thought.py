"""The thought lab: branches share what they have in common, say what is so, and outlast any interrupt."""

import json
import math
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from small import BYTES, SMALL

import gptoss_lab as lab
from gptoss_lab import edits, planted
from gptoss_lab import weights as weights_module
from gptoss_lab.harmony import Message
from gptoss_lab.model import Transformer
from gptoss_lab.ops import ENGINES
from gptoss_lab.session import Model
from gptoss_lab.thought.monitors import pattern
from gptoss_lab.thought.tree import Branch

TRUTH = planted.build("answer").truth
KEPT = TRUTH.kept_sentence + 1
"""The step that decides the answer, counted from 1."""


@pytest.fixture(params=ENGINES, scope="module")
def answering(request: pytest.FixtureRequest) -> Model:
    """It thinks of five digits, and answers with the third: see `planted.answer`."""
    return lab.load("planted:answer", engine=request.param)


@pytest.fixture(scope="module")
def rambling() -> Model:
    """Random weights: it hardly ever ends, and everything depends on everything."""
    config = replace(SMALL, d_vocab=264, n_layers=2, n_ctx=512)
    return Model(Transformer(config, weights_module.random(config, seed=7), "torch"), BYTES, "rambling")


@pytest.fixture
def thoughts(answering: Model) -> lab.ThoughtLab:
    thoughts = lab.ThoughtLab(answering, "Which?", seed=5)
    thoughts.run()
    return thoughts


def texts(branch: Branch) -> list[str]:
    return [step.text for step in branch.steps]


def consistent(thoughts: lab.ThoughtLab, branch: Branch) -> None:
    """Every branch is what a run of its tokens from scratch gives, and its cache holds its own first tokens."""
    model, growth = thoughts.model, thoughts._growths[branch.number]
    held = growth.cache.tokens.tolist()
    assert held == branch.ids[: len(held)]
    with model.edit(branch.settings.edits):
        cache = model.transformer.new_cache()
        expected = model(branch.ids, cache)[0].double().log_softmax(-1)
    for layer in range(model.config.n_layers):
        for ours, theirs in zip(growth.cache.read(layer), cache.read(layer), strict=True):
            np.testing.assert_allclose(ours, theirs[: len(held)], atol=1e-4)
    for position, token in enumerate(branch.tokens):
        if not math.isnan(token.logprob):
            row = expected[position - 1]
            assert token.logprob == pytest.approx(float(row[token.id]), abs=1e-3)
            assert token.entropy == pytest.approx(float(-(row.exp() * row).sum()), abs=1e-3)
            assert token.alternatives[0].logprob == pytest.approx(float(row.max()), abs=1e-3)


# Thinking


def test_the_first_thought_is_what_the_model_says_in_chat(answering: Model, thoughts: lab.ThoughtLab) -> None:
    branch = thoughts[0]
    reply = answering.chat("Which?", "high", temperature=1.0, seed=5)
    assert branch.ids == [*reply.prompt_tokens, *reply.tokens]
    assert list(branch.spans) == [*reply.prompt_spans, *reply.spans]
    assert branch.text == reply.text
    assert branch.thought == reply.thought
    assert branch.reply.messages == reply.messages
    assert branch.reply.conversation == reply.conversation
    assert (branch.finish, branch.parent, branch.problems) == ("stop", None, ())
    assert branch.status == "was ended by the model"
    consistent(thoughts, branch)
    assert thoughts.latest is branch
    assert thoughts.run().ids == branch.ids  # there is nothing to go on with


def test_every_token_and_step_tells_what_was_expected(thoughts: lab.ThoughtLab) -> None:
    branch = thoughts[0]
    table, steps = branch.table(), branch.step_table()
    assert len(table) == len(branch.reply.tokens)
    digits = table[table.text.str.isdigit() & (table.channel == "analysis")]
    np.testing.assert_allclose(digits.probability, 0.1, atol=0.01)
    np.testing.assert_allclose(digits.entropy, math.log(10), atol=0.05)
    assert digits.step.tolist() == [1, 2, 3, 4, 5]
    assert set(table.source) == {"sampled"}
    assert steps.step.tolist() == [1, 2, 3, 4, 5, 6]
    assert steps.channel.tolist() == ["analysis"] * 5 + ["final"]
    np.testing.assert_allclose(steps.probability[:5], 0.1**0.25, atol=0.02)
    np.testing.assert_allclose(steps.least_probability[:5], 0.1, atol=0.01)
    assert (steps.sampled == 1).all()


def test_a_stream_gives_each_token_when_it_is_in_its_place(answering: Model, thoughts: lab.ThoughtLab) -> None:
    streaming = lab.ThoughtLab(answering, "Which?", seed=5)
    for n, token in enumerate(streaming.stream(), start=1):
        assert streaming[0].tokens[-1] is token
        assert streaming[0].n_new == n
        assert answering.edits == ()
    assert streaming[0].ids == thoughts[0].ids
    heard: list[Any] = []
    lab.ThoughtLab(answering, "Which?", seed=5).run(on_token=heard.append)
    assert [token.id for token in heard] == thoughts[0].reply.tokens


def test_what_never_ends_stops_at_its_limit_and_says_so(rambling: Model) -> None:
    thoughts = lab.ThoughtLab(rambling, "Hi", seed=3, max_new_tokens=9)
    branch = thoughts.run()
    assert (branch.finish, branch.n_new) == ("length", 9)
    assert branch.status.startswith("was stopped at its limit of 9 new tokens")
    assert thoughts.resume().ids == branch.ids
    longer = thoughts.resume(max_new_tokens=30)
    assert longer.n_new == 30
    assert longer.ids == lab.ThoughtLab(rambling, "Hi", seed=3, max_new_tokens=30).run().ids
    consistent(thoughts, longer)
    full = thoughts.resume(max_new_tokens=10_000)
    assert full.finish in ("context", "stop")
    assert len(full) <= rambling.config.n_ctx + 1


# Branching


def test_an_edited_step_changes_the_answer_where_it_is_the_one_that_counts(thoughts: lab.ThoughtLab) -> None:
    first = thoughts[0]
    other = str((int(first.text) + 1) % 10)
    edited = thoughts.edit(KEPT, f"Keep {other} safe.")
    assert edited.text == other
    assert texts(edited)[:3] == [*texts(first)[:2], f"Keep {other} safe.\n"]
    assert edited.origin == f"step 3 changed from {texts(first)[2]!r} to 'Keep {other} safe.\\n'"
    kept = thoughts.edit(1, "See 3 apples.", of=0, rest="keep")
    assert kept.text == first.text
    assert texts(kept)[1:] == texts(first)[1:]
    consistent(thoughts, edited)
    consistent(thoughts, kept)
    assert thoughts[0].ids == first.ids


def test_deleted_inserted_and_cut(thoughts: lab.ThoughtLab) -> None:
    first = thoughts[0]
    deleted = thoughts.delete(2)
    assert texts(deleted)[:4] == [texts(first)[0], *texts(first)[2:5]]
    assert deleted.text == first.text
    anew = thoughts.delete(3, of=first, rest="anew")
    assert texts(anew)[2].startswith("Keep")  # the model says it after all
    inserted = thoughts.insert(5, "Keep 2 safe.", of=0)
    assert texts(inserted)[5] == "Keep 2 safe.\n"
    inserted = thoughts.insert(0, "Keep 2 safe.", of=0, go_on=False)
    assert texts(inserted) == ["Keep 2 safe.\n"]
    cut = thoughts.truncate(3, of=0)
    assert texts(cut) == [*texts(first)[:2], texts(first)[2].rstrip(), first.text]
    nothing = thoughts.truncate(0, of=0)
    assert nothing.thought == ""
    assert nothing.text.isdigit()
    answer = next(
        token
        for token, span in zip(nothing.tokens, nothing.spans, strict=True)
        if token.text == nothing.text and span.channel == "final"
    )
    assert answer.entropy == pytest.approx(math.log(10), abs=0.01)
    for branch in thoughts.branches:
        consistent(thoughts, branch)
    assert thoughts.children(0) == [1, 2, 3, 4, 5, 6]


def test_another_token_or_another_draw(thoughts: lab.ThoughtLab) -> None:
    first = thoughts[0]
    place = first.steps[2].start + 1
    other = next(choice for choice in first.tokens[place].alternatives if choice.text != first.text)
    for token in (other.text, other.id):
        taken = thoughts.branch(place, token, of=0)
        assert taken.text == other.text
        assert taken.tokens[place].source == "given"
        assert taken.tokens[place].logprob == pytest.approx(other.logprob, abs=1e-4)
        assert taken.origin == f"{other.text!r} at position {place}, instead of {first.text!r}"
        assert (taken.shared, taken.parent) == (place, 0)
        assert all(one is two for one, two in zip(taken.tokens[:place], first.tokens, strict=False))
    answers = {thoughts.branch(place, of=0).text for _ in range(12)}
    assert len(answers) > 3
    assert thoughts.branch(place, of=0, seed=3).ids == thoughts.branch(place, of=0, seed=3).ids


def test_other_settings(answering: Model, thoughts: lab.ThoughtLab) -> None:
    first = thoughts[0]
    low = thoughts.change(effort="low")
    assert (
        low.ids[: low.n_prompt] == lab.ThoughtLab(answering, "Which?", "low").run(max_new_tokens=1).ids[: low.n_prompt]
    )
    assert "Reasoning: low" in low.asked[0].content
    told = thoughts.change(instructions="Keep 3 at hand.", of=0, at=first.steps[1].stop)
    assert "Keep 3 at hand." in told.asked[1].content
    assert texts(told)[:2] == texts(first)[:2]
    assert {token.source for token in told.tokens[told.n_prompt : told.n_given]} == {"given"}
    assert thoughts.change(instructions=None, of=told, go_on=False).asked == first.asked
    layer, head = TRUTH.reader
    final = edits.ablate_head(head, layer, channel="final")
    blind = thoughts.change(edits=final, of=0, at=first.steps[4].stop)
    assert blind.shared == first.steps[4].stop  # nothing that was said so far is touched: it need not be run again
    assert blind.origin == f"interventions: {final}, the reply kept up to position {first.steps[4].stop}"
    everywhere = thoughts.change(edits=edits.ablate_head(head, layer), of=0, at=first.steps[4].stop)
    assert everywhere.shared == 0
    cold = thoughts.change(temperature=0, at=first.steps[1].stop, of=0)
    assert cold.shared == first.steps[1].stop
    for branch in thoughts.branches:
        consistent(thoughts, branch)


def test_an_answer_without_the_head_that_reads_it_is_any_digit(thoughts: lab.ThoughtLab) -> None:
    layer, head = TRUTH.reader
    branch = thoughts.change(edits=edits.ablate_head(head, layer), at=len(thoughts[0]) - 2, of=0)
    assert branch.table().iloc[-2].entropy == pytest.approx(math.log(10), abs=0.01)


def test_a_broken_form_is_shown_and_not_repaired(thoughts: lab.ThoughtLab) -> None:
    ended = thoughts.edit(3, "Keep<|end|> 9 safe.", of=0)
    assert "the header of message 2 of the reply is malformed" in ended.problems[0]
    assert "not in harmony's form" in ended.status
    assert [token.text for token in ended.tokens[ended.n_prompt : ended.n_given]].count("<|end|>") == 1
    stray = thoughts.edit(3, "Keep <|channel|> 9 safe.", of=0, max_new_tokens=3)
    assert stray.problems == ("control tokens stand within a content: <|channel|>",)
    open_end = thoughts.edit(5, "Smell 5 roses.<|start|>assistant<|channel|>fin<|message|>7<|return|>", of=0)
    assert open_end.problems == (
        "message 1 of the reply is not ended",
        "message 2 of the reply is on a channel that there is not, 'fin'",
    )
    assert (open_end.finish, open_end.n_new) == ("stop", 0)
    assert thoughts.truncate(2, of=0).problems == ()


def test_interventions_that_are_active_when_the_lab_is_made_belong_to_it(answering: Model) -> None:
    layer, head = TRUTH.thought_head
    with answering.edit(edits.ablate_head(head, layer)):
        thoughts = lab.ThoughtLab(answering, "Which?", seed=1, max_new_tokens=60)
        inside = thoughts.run()
    assert inside.settings.edits == (edits.ablate_head(head, layer),)
    assert inside.finish == "length"  # it never comes to an answer
    again = lab.ThoughtLab(answering, "Which?", seed=1, max_new_tokens=60, edits=edits.ablate_head(head, layer))
    with answering.edit(edits.ablate_head(0, 0)):  # no concern of a lab that was made before
        assert again.resume(0).ids != inside.ids if len(again) else again.run().ids == inside.ids


def test_a_fork_copies_at_most_one_piece_and_takes_no_time(answering: Model, thoughts: lab.ThoughtLab) -> None:
    first = thoughts[0]
    mine = thoughts._growths[0].cache.addresses
    times = []
    for place in range(first.n_prompt, len(first)):
        before = time.perf_counter()
        branch = thoughts.branch(place, "7", of=0, go_on=False)
        times.append(time.perf_counter() - before)
        theirs = thoughts._growths[branch.number].cache.addresses
        assert theirs == mine[: len(theirs)]
        thoughts.resume(branch)
        assert len(set(thoughts._growths[branch.number].cache.addresses[: len(theirs)]) - set(mine)) <= 1
    assert np.median(times) < 0.005


def test_what_is_shared_is_not_run_again(thoughts: lab.ThoughtLab, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    plain = Transformer._forward
    monkeypatch.setattr(
        Transformer,
        "_forward",
        lambda self, tokens, *rest: (sizes.append(tokens.shape[1]), plain(self, tokens, *rest))[1],
    )
    place = thoughts[0].steps[2].start + 1
    branch = thoughts.branch(place, "7", of=0)
    assert sizes == [1] * (len(branch) - place)  # from the token before the new one, whose logits are wanted


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: t.branch(3, "7"), "position 3 is not in the reply of branch 0"),
        (lambda t: t.branch(10_000), "position 10000 is not in the reply"),
        (lambda t: t.edit(9, "x"), "branch 0 has no step 9; its steps are 1 to 6"),
        (lambda t: t.edit(0, "x"), "has no step 0"),
        (lambda t: t.edit(text="x"), "say what is meant: step=, or tokens="),
        (lambda t: t.edit(tokens=(80, 80), text="x"), r"start before stop; got \(80, 80\)"),
        (lambda t: t.delete(2, rest="gone"), "rest is anew or keep; got 'gone'"),
        (lambda t: t.change(), "nothing is changed"),
        (lambda t: t.change(temperature=-1), "temperature must be 0 or more"),
        (lambda t: t.change(edits=edits.ablate_head(99)), "no head 99"),
        (lambda t: t[7], "there is no branch 7; there are 0 to 0"),
        (lambda t: t.resume(0, max_new_tokens=0), "at least 1; got 0"),
        (lambda t: t.edit(1, "x " * 200_000), "the context has"),
        (lambda t: lab.ThoughtLab(t.model, " "), "question is empty"),
        (lambda t: lab.ThoughtLab(t.model, "Hi").latest, "there is no thought yet"),
        (
            lambda t: (
                (own := lab.ThoughtLab(t.model, [Message("system", "Be brief."), Message("user", "Hi")])).run(
                    max_new_tokens=1
                )
                and own.change(effort="low")
            ),
            "a system message of its own",
        ),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_no_branch(
    thoughts: lab.ThoughtLab, call: Callable[[lab.ThoughtLab], Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        call(thoughts)
    assert len(thoughts) == 1


# Comparing


def test_two_branches_side_by_side(thoughts: lab.ThoughtLab) -> None:
    first = thoughts[0]
    other = str((int(first.text) + 1) % 10)
    thoughts.edit(KEPT, f"Keep {other} safe.", rest="keep")
    found = thoughts.compare(0, 1)
    place = first.steps[2].start + 1
    assert found.divergence == (place, place)
    text = found.text()
    assert text.change.tolist() == ["same", "replaced", "same", "replaced", "same"]
    assert text[text.change == "replaced"].a.tolist() == [first.text] * 2
    assert text[text.change == "replaced"].b.tolist() == [other] * 2
    assert "".join(text.a) == "".join(token.text for token in first.tokens[first.n_prompt :])
    assert found.chances is not None
    assert found.chances[first.text] == pytest.approx((1, 0), abs=1e-3)
    assert found.chances[other] == pytest.approx((0, 1), abs=1e-3)
    assert found.answers().answer.tolist() == [first.text, other]
    assert found.routing().empty  # every class of tokens has its expert
    said = str(found)
    assert f"They part after {place - first.n_prompt} tokens: '{first.text}' or '{other}'." in said
    assert f"Probability of the answer '{other}':" in said
    assert "go to the same experts in every layer" in said
    assert "<pre>" in found._repr_html_()
    assert thoughts.compare(0, 0).divergence is None
    assert "The replies are the same, token by token." in str(thoughts.compare(0, 0))


def test_other_experts_are_told_with_their_margins(thoughts: lab.ThoughtLab) -> None:
    expert = TRUTH.expert_of_class["digit"]
    masked = edits.mask_expert(expert, layer=1, channel="analysis")
    branch = thoughts.change(edits=masked, at=len(thoughts[0]) - 1, of=0)
    flips = thoughts.compare(0, branch).routing()
    first = thoughts[0]
    digits = [
        n for n, token in enumerate(first.tokens) if token.id in TRUTH.digits and first.spans[n].channel == "analysis"
    ]
    assert set(flips.layer) == {1}
    assert flips.a_position.tolist() == flips.b_position.tolist() == digits
    assert all(expert in left for left in flips.left)
    assert not flips.noise.any()
    assert f"Routing: {len(digits)} of" in str(thoughts.compare(0, branch))


def test_a_branch_that_came_to_no_answer_is_asked_for_one(thoughts: lab.ThoughtLab) -> None:
    short = thoughts.branch(thoughts[0].steps[3].start, of=0, max_new_tokens=2)
    bare = thoughts.truncate(0, of=0)
    found = thoughts.compare(0, short)
    assert found.chances is not None
    assert found.chances[thoughts[0].text] == pytest.approx((1, 1), abs=1e-3)
    assert "gives no answer" in str(found)
    chances = thoughts.compare(short, bare).chances
    assert chances is not None
    assert chances[bare.text][1] == pytest.approx(0.1, abs=1e-3)


# Files


def test_a_tree_is_saved_and_reopened(answering: Model, thoughts: lab.ThoughtLab, tmp_path: Path) -> None:
    layer, head = TRUTH.reader
    thoughts.edit(KEPT, "Keep<|end|> 9 <b>safe</b>.", max_new_tokens=3)
    thoughts.change(instructions="Be 10 % “brief”.", edits=edits.ablate_head(head, layer), of=0, max_new_tokens=4)
    thoughts.branch(thoughts[0].n_prompt + 2, of=0, go_on=False)
    thoughts.branch(thoughts[0].steps[0].start, of=0, go_on=False)
    thoughts.resume(monitors=[pattern("apples")])
    assert len(thoughts.alarms) == 1
    path = thoughts.save(tmp_path / "tree.json")
    assert list(tmp_path.iterdir()) == [path]
    for model in (answering, None):
        reopened = lab.load_thoughts(path, model)
        assert len(reopened) == len(thoughts) == 5
        assert reopened.alarms == thoughts.alarms
        for before, after in zip(thoughts.branches, reopened.branches, strict=True):
            for field in fields(Branch):
                if field.name != "tokens":
                    assert getattr(after, field.name) == getattr(before, field.name), field.name
            assert list(map(repr, after.tokens)) == list(map(repr, before.tokens))
            assert repr(after.step_table()) == repr(before.step_table())
        assert reopened.settings == thoughts.settings
        assert reopened.question == thoughts.question
        assert reopened.compare(0, 1).divergence == thoughts.compare(0, 1).divergence
        assert reopened.save(tmp_path / "again.json").read_bytes() == path.read_bytes()
    alive = lab.load_thoughts(path, answering)
    for number in range(4):
        done, expected = alive.resume(number, max_new_tokens=40), thoughts.resume(number, max_new_tokens=40)
        assert (done.ids, done.finish) == (expected.ids, expected.finish)
        consistent(alive, done)
    assert alive.edit(KEPT, "Keep 9 safe.", of=0, seed=1).ids == thoughts.edit(KEPT, "Keep 9 safe.", of=0, seed=1).ids


def test_without_its_model_a_tree_can_be_seen_and_nothing_else(thoughts: lab.ThoughtLab, tmp_path: Path) -> None:
    thoughts.truncate(2)
    seen = lab.load_thoughts(thoughts.save(tmp_path / "tree.json"))
    assert seen[1].text == thoughts[1].text
    assert "They part after" in str(seen.compare(0, 1))
    for act in (
        lambda: seen.resume(0),
        lambda: seen.edit(1, "x"),
        lambda: seen.branch(seen[0].n_prompt),
        lambda: seen.truncate(1),
        lambda: seen.change(effort="low"),
        lambda: seen.forced_answer(),
    ):
        with pytest.raises(ValueError, match="opened without its model"):
            act()
    for table in (seen.compare(0, 1).routing, seen.compare(0, 1).answers):
        with pytest.raises(ValueError, match="without a model"):
            table()


def test_other_files_and_other_models_are_refused(thoughts: lab.ThoughtLab, rambling: Model, tmp_path: Path) -> None:
    path = thoughts.save(tmp_path / "tree.json")
    with pytest.raises(ValueError, match="another vocabulary"):
        lab.load_thoughts(path, rambling)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        lab.load_thoughts(tmp_path / "nothing.json")
    whole = path.read_text()
    content = json.loads(whole)
    broken = [
        "",
        "[]",
        whole[: len(whole) // 2],
        whole.replace("gptoss_lab.thoughts/1", "gptoss_lab.thoughts/9"),
        json.dumps({**content, "branches": [{**content["branches"][0], "parent": 3}]}),
        json.dumps({**content, "branches": [{**content["branches"][0], "spans": []}]}),
        json.dumps({**content, "branches": [{**content["branches"][0], "finish": "odd"}]}),
        json.dumps({**content, "texts": {}}),
        json.dumps({**content, "settings": {**content["settings"], "edits": [{"edit": "os.system"}]}}),
        json.dumps({**content, "settings": {**content["settings"], "temperature": -1}}),
        json.dumps({**content, "alarms": [{"branch": 7, "position": 1, "monitor": "", "words": ""}]}),
        json.dumps({**content, "alarms": [{"branch": 0, "position": 1, "monitor": "", "words": 3}]}),
    ]
    for text in broken:
        path.write_text(text)
        with pytest.raises(ValueError, match="is not a tree of thoughts"):
            lab.load_thoughts(path)
    path.write_text(whole)
    assert lab.load_thoughts(path)[0].ids == thoughts[0].ids


# Interrupts, and several at once


def interrupting(after: int) -> Callable[[FrameType, str, Any], Any]:
    """A trace function that raises KeyboardInterrupt at a certain line of the package's code that is executed."""
    left = after

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        if "gptoss_lab" not in frame.f_code.co_filename:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    return trace


@pytest.fixture
def tracing() -> Iterator[None]:
    before = sys.gettrace()
    yield
    sys.settrace(before)


def test_an_interrupt_at_any_moment_leaves_a_tree_that_goes_on(rambling: Model, tracing: None) -> None:
    def work(thoughts: lab.ThoughtLab) -> None:
        thoughts.run()
        thoughts.edit(tokens=(thoughts[0].n_prompt + 4, thoughts[0].n_prompt + 6), text="so", of=0)
        thoughts.change(edits=edits.ablate_expert(3), at=thoughts[0].n_prompt + 8, of=0)

    def new() -> lab.ThoughtLab:
        return lab.ThoughtLab(rambling, "Hi", seed=3, max_new_tokens=12)

    whole = new()
    work(whole)
    moments = random.Random(0)
    lines = 48_000
    interrupted = 0
    for _ in range(100):
        thoughts = new()
        sys.settrace(interrupting(moments.randrange(1, lines)))
        try:
            work(thoughts)
        except KeyboardInterrupt:
            interrupted += 1
        finally:
            sys.settrace(None)
        assert rambling.edits == ()
        for branch in thoughts.branches:
            expected = whole[branch.number]
            assert branch.ids == expected.ids[: len(branch)]
            assert branch.finish in ("unfinished", "interrupted", expected.finish)
            done = thoughts.resume(branch)
            assert (done.ids, done.finish) == (expected.ids, expected.finish)
            consistent(thoughts, done)
    assert interrupted > 80


def test_two_labs_on_one_model_take_turns(answering: Model) -> None:
    layer, head = TRUTH.thought_head
    blind = edits.ablate_head(head, layer)

    def new() -> list[lab.ThoughtLab]:
        return [
            lab.ThoughtLab(answering, "Which?", seed=1, max_new_tokens=50),
            lab.ThoughtLab(answering, "Who?", seed=2, max_new_tokens=50, edits=blind),
        ]

    alone = [thoughts.run() for thoughts in new()]
    together = new()
    streams = [thoughts.stream() for thoughts in together]
    going = list(streams)
    while going:
        for stream in list(going):
            if next(stream, None) is None:
                going.remove(stream)
            assert answering.edits == ()
    assert [thoughts[0].ids for thoughts in together] == [branch.ids for branch in alone]
    assert alone[1].finish == "length"


def test_a_stream_that_nobody_finishes_goes_on_where_it_stopped(answering: Model, thoughts: lab.ThoughtLab) -> None:
    again = lab.ThoughtLab(answering, "Which?", seed=5)
    for _ in zip(range(4), again.stream(), strict=False):
        pass
    assert 4 <= again[0].n_new <= 5
    assert again[0].finish == "interrupted"
    branch = again.branch(again[0].n_prompt + 3, of=0)  # even while it is not finished, it can be branched from
    assert branch.finish == "stop"
    assert again.resume(0).ids == thoughts[0].ids
    asked = iter([False] * 9 + [True] * 99)
    stopped = lab.ThoughtLab(answering, "Which?", seed=5)
    assert stopped.run(should_stop=lambda: next(asked)).finish == "interrupted"
    assert stopped.run().ids == thoughts[0].ids
