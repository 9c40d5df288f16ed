"""Comparing with an edited run: on a model whose mechanism is known, and on random ones."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from small import BYTES, SMALL

import gptoss_lab as lab
from gptoss_lab import edits, planted
from gptoss_lab import weights as weights_module
from gptoss_lab.experiments.comparison import Comparison
from gptoss_lab.harmony import Message
from gptoss_lab.model import Transformer
from gptoss_lab.ops import ENGINES
from gptoss_lab.reply import Reply
from gptoss_lab.session import Model

TRUTH = planted.build("answer").truth


@pytest.fixture(params=ENGINES, scope="module")
def answering(request: pytest.FixtureRequest) -> Model:
    """It thinks of five digits, and answers with the third: see `planted.answer`."""
    return lab.load("planted:answer", engine=request.param)


@pytest.fixture(scope="module")
def reply(answering: Model) -> Reply:
    return answering.chat("Which?", temperature=1.0, seed=5, max_new_tokens=60, display=False)


@pytest.fixture(scope="module")
def rambling() -> Model:
    config = replace(SMALL, d_vocab=264, n_layers=2, n_ctx=2048)
    return Model(Transformer(config, weights_module.random(config, seed=7), "torch"), BYTES, "rambling")


def test_without_the_head_that_reads_it_the_answer_is_any_digit(answering: Model, reply: Reply) -> None:
    assert len(reply.text) == 1
    layer, head = TRUTH.reader
    found = lab.compare(answering, "Which?", edits.ablate_head(head, layer), reply=reply)
    answer = len(reply.prompt_tokens) + len(reply.tokens) - 2  # <|return|> is the last
    expected = np.zeros(len(found.kl))
    expected[answer] = math.log(10)  # from one digit to any of ten
    np.testing.assert_allclose(found.kl[1:], expected[1:], atol=0.02)
    assert math.isnan(found.kl[0])
    table = found.table()
    row = table.iloc[answer]
    assert row.text == reply.text
    assert row.channel == "final"
    assert row.kl == found.kl[answer]
    assert row.probability_before == pytest.approx(1, abs=0.01)
    assert row.probability_after == pytest.approx(0.1, abs=0.01)
    assert row.likeliest_before == reply.text
    assert list(table.position) == list(range(len(reply.prompt_tokens) + len(reply.tokens)))
    assert "by 2.3 at most" in found.summary()
    assert f"at '{reply.text}' (position {answer})" in found.summary()


@pytest.mark.parametrize("sentence", range(5))
def test_only_the_sentence_that_is_kept_matters_to_the_answer(answering: Model, reply: Reply, sentence: int) -> None:
    matters = sentence == TRUTH.kept_sentence
    n_prompt = len(reply.prompt_tokens)
    digit = [n_prompt + place for place, token in enumerate(reply.tokens) if token in TRUTH.digits][sentence]
    edit = edits.knock_out_attention(edits.at(channel="final"), [digit - 1, digit])
    found = lab.compare(answering, "Which?", edit, reply=reply)
    assert bool(np.nanmax(found.kl) > 1) is matters
    assert ("stay as they were" in str(found)) is not matters


@pytest.mark.parametrize("head", [(layer, head) for layer in (0, 1) for head in range(4)])
def test_an_induction_pair_predicts_together_or_not_at_all(head: tuple[int, int]) -> None:
    model, known = lab.load("planted:induction", engine="torch"), planted.build("induction").truth
    layer, number = head
    found = lab.compare(model, "qzq", edits.ablate_head(number, layer), max_new_tokens=3)
    second_q = max(place for place, text in enumerate(found.before.texts) if text == "q")
    expects_z = found.table().iloc[second_q + 1]
    assert expects_z.likeliest_before == "z"
    decides = head in (known.previous_token_head, known.induction_head)
    any_token = math.log(model.config.d_vocab)
    assert expects_z.kl == pytest.approx(any_token if decides else 0, abs=0.01)
    assert found.routing().empty


def test_routing_flips_are_told_with_their_margins(answering: Model, reply: Reply) -> None:
    expert = TRUTH.expert_of_class["digit"]
    found = lab.compare(answering, "Which?", edits.mask_expert(expert, layer=1, channel="analysis"), reply=reply)
    flips = found.routing()
    digits = [
        place
        for place, span in enumerate(found.before.spans)
        if found.before.texts[place].isdigit() and span.channel == "analysis"
    ]
    assert sorted(flips.position[flips.layer == 1]) == digits
    assert set(flips.layer) == {1}
    assert all(left == (expert,) for left in flips.left)
    assert all(len(joined) == 1 and joined[0] != expert for joined in flips.joined)
    np.testing.assert_allclose(flips.margin, found.before.margins()[1, digits])
    assert not flips.noise.any()
    assert found.table().flips.sum() == len(flips)
    assert f"Routing: {len(flips)} of {2 * len(found.kl)} choices of experts differ" in found.summary()
    assert edits.from_json(found.after.provenance["edits"]) == found.edits
    assert "edits" not in found.before.provenance


def test_the_edited_answer_is_the_models_own_under_the_edit(rambling: Model) -> None:
    edit = edits.set_top_k(1) + edits.ablate_head(0, layer=1)
    found = lab.compare(rambling, "Hi", edit, max_new_tokens=12)
    with rambling.edit(edit):
        expected = rambling.chat("Hi", temperature=0, max_new_tokens=12)
    plain = rambling.chat("Hi", temperature=0, max_new_tokens=12)
    assert found.edited_reply.tokens == expected.tokens != plain.tokens
    assert found.reply.tokens == plain.tokens
    assert found.edited_reply.edits == edits.describe(edit)
    assert rambling.edits == ()
    np.testing.assert_allclose(found.before.logprobs[found.before.n_prompt :], np.float32(plain.logprobs), atol=1e-4)
    tokens = [*plain.prompt_tokens, *plain.tokens]
    p = rambling(tokens)[0].double().log_softmax(-1)
    with rambling.edit(edit):
        q = rambling(tokens)[0].double().log_softmax(-1)
    np.testing.assert_allclose(found.kl[1:], (p.exp() * (p - q)).sum(-1)[:-1], atol=1e-5)
    flips = found.routing()
    assert flips[flips.layer == 0].joined.map(len).eq(0).all()
    assert list(flips[flips.layer == 0].position) == list(range(len(tokens)))


def test_what_is_active_already_stays_on_both_sides(rambling: Model) -> None:
    outer, inner = edits.mask_expert(0), edits.ablate_head(1)
    with rambling.edit(outer):
        found = lab.compare(rambling, "Hi", inner, max_new_tokens=4)
        assert rambling.edits == (outer,)
        with pytest.raises(ValueError, match="masked and forced"):
            lab.compare(rambling, "Hi", edits.force_expert(0))
    assert (found.before.expert_indices != 0).all()
    assert edits.from_json(found.before.provenance["edits"]) == (outer,)
    assert edits.from_json(found.after.provenance["edits"]) == (outer, inner)


def test_nothing_runs_for_edits_that_cannot_be_and_replies_to_something_else(rambling: Model) -> None:
    asleep = Model(rambling.transformer, BYTES)
    asleep.chat = lambda *args, **options: pytest.fail("it ran")  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="no expert 40"):
        lab.compare(asleep, "Hi", edits.ablate_expert(40))
    with pytest.raises(ValueError, match="at least one edit"):
        lab.compare(asleep, "Hi", [])
    other = rambling.chat("Ho", max_new_tokens=2)
    with pytest.raises(ValueError, match="the reply answers another prompt: 'Ho'"):
        lab.compare(asleep, "Hi", edits.ablate_expert(1), reply=other)


def test_it_shows_itself_with_everything_escaped(rambling: Model) -> None:
    found = lab.compare(rambling, [Message("user", "Hi")], edits.steer(torch.ones(64), 0), max_new_tokens=3)
    hostile = replace(found.reply, messages=[Message("assistant", "<script>\u202e\n", "final")])
    shown: Comparison = replace(found, reply=hostile)
    assert "<script>" not in shown._repr_html_()
    assert "&lt;script&gt;⟨U+202E⟩↵" in shown._repr_html_()
    assert "'<script>⟨U+202E⟩↵' becomes ''" in shown.summary()
    assert "Edit: hook_resid_post of layer 0 is steered" in shown.summary()
    same = lab.compare(rambling, "Hi", edits.scale_expert(1, 1.0), max_new_tokens=3)
    assert "word for word the same reply" in same.summary()
    assert "Routing: none of" in same.summary()
