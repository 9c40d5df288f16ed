"""The logit lens: what a trace keeps of it equals its definition, and it sees what planted models think when."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small import BYTES, SMALL
from traces import conversation

import gptoss_lab as lab
from gptoss_lab import logit_lens, planted
from gptoss_lab import weights as weights_module
from gptoss_lab.analyses import lens
from gptoss_lab.edits import steer
from gptoss_lab.model import Transformer
from gptoss_lab.ops import ENGINES
from gptoss_lab.planted.vocabulary import token_id
from gptoss_lab.recording import Record
from gptoss_lab.session import Model

NAMES = ("lens_tokens", "lens_logprobs", "lens_entropy", "lens_rank", "lens_logprob", "lens_kl")
TOKENS = [7, 250, 13, 13, 40, 99, 1, 0, 263, 7]


@pytest.fixture(params=ENGINES, scope="module")
def model(request: pytest.FixtureRequest) -> Model:
    config = replace(SMALL, d_vocab=264, n_layers=2)
    return Model(Transformer(config, weights_module.random(config, seed=2), request.param), BYTES, "small")


@pytest.fixture(scope="module")
def reading() -> lab.Trace:
    """A model that says "7" as soon as head (1, 0) has read it."""
    return lab.load("planted:reads-one", engine="torch").trace("See 4. Keep 7 safe.7", record=("lens",))


def test_every_number_is_what_its_definition_says(model: Model) -> None:
    trace = model.trace(TOKENS, record=("lens", "residual"))
    assert trace.lens_points == trace.residual_points
    residual = torch.from_numpy(trace.residual).double()
    weights = model.transformer.weights
    normalized = residual / (residual.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weights.final_norm
    logprobs = (normalized @ weights.unembedding.double().mT).log_softmax(-1).numpy()
    close = {"atol": 2e-4}
    np.testing.assert_allclose(trace.lens_entropy, -(np.exp(logprobs) * logprobs).sum(-1), **close)
    np.testing.assert_allclose(trace.lens_kl, (np.exp(logprobs[-1]) * (logprobs[-1] - logprobs)).sum(-1), **close)
    assert (trace.lens_kl[:-1] > 0.01).all()
    np.testing.assert_allclose(trace.lens_logprobs, -np.sort(-logprobs)[..., :5], **close)
    np.testing.assert_allclose(np.take_along_axis(logprobs, trace.lens_tokens, axis=-1), trace.lens_logprobs, **close)
    for position, token in enumerate(TOKENS[1:]):
        own = logprobs[:, position, token]
        np.testing.assert_allclose(trace.lens_logprob[:, position], own, **close)
        clear = np.abs(logprobs[:, position] - own[:, None]) > 1e-4
        rank = ((logprobs[:, position] > own[:, None]) & clear).sum(-1)
        np.testing.assert_array_equal(trace.lens_rank[:, position], rank)
    assert (trace.lens_rank[:, -1] == -1).all()
    assert np.isnan(trace.lens_logprob[:, -1]).all()
    np.testing.assert_allclose(trace.lens_logprob[-1, :-1], trace.logprobs[1:], **close)


def test_recorded_while_generating_it_equals_one_pass_and_is_not_taken_again(model: Model) -> None:
    reply = model.chat("Hello", max_new_tokens=20, seed=1, record=("lens",))
    recorded = reply.trace
    assert recorded is not None
    assert model.trace(reply, record=("lens",)) is recorded
    assert model.trace(reply, record=Record(lens=[0])) is recorded
    assert model.trace(reply, record=("lens", "residual")) is not recorded
    traced = model.trace([*reply.prompt_tokens, *reply.tokens], record=("lens",))
    for name in ("lens_logprobs", "lens_entropy", "lens_logprob", "lens_kl"):
        np.testing.assert_allclose(getattr(recorded, name), getattr(traced, name), atol=1e-3, err_msg=name)
    assert recorded.lens_points == traced.lens_points
    assert recorded.lens_tokens.shape == (5, len(recorded.token_ids), 5)
    assert recorded.lens_texts.keys() == set(recorded.lens_tokens.ravel().tolist())
    np.testing.assert_allclose(
        recorded.lens_logprob[-1, recorded.n_prompt - 1 : -1], recorded.logprobs[recorded.n_prompt :], atol=1e-3
    )


def test_chosen_layers_are_those_of_the_whole_held_against_the_same_end(model: Model) -> None:
    whole = model.trace(TOKENS, record=("lens",))
    first = model.trace(TOKENS, record=Record(lens=[0]))
    assert first.lens_points == (*whole.lens_points[:3], whole.lens_points[-1])
    for name in NAMES[1:]:
        expected = getattr(whole, name)[[0, 1, 2, 4]]
        np.testing.assert_allclose(getattr(first, name), expected, atol=1e-4, err_msg=name)


def test_a_large_vocabulary_never_stands_whole_in_memory(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []

    def unembed(streams: torch.Tensor) -> torch.Tensor:
        rows.append(streams.shape[:-1].numel())
        return model.transformer.unembed(streams)

    monkeypatch.setattr(logit_lens, "_ROWS", 12)
    streams, following = list(torch.randn(5, 9, 64)), [*range(8), logit_lens.UNKNOWN]
    parts = logit_lens.read(unembed, streams, following)
    assert max(rows) <= 12
    assert sum(rows) == 45
    monkeypatch.setattr(logit_lens, "_ROWS", 10_000)
    whole = logit_lens.read(unembed, streams, following)
    for name in NAMES:
        np.testing.assert_allclose(parts[name], whole[name], atol=1e-5, err_msg=name)


def test_the_context_being_full_the_last_token_is_known_though_it_never_ran(model: Model) -> None:
    n_prompt = len(model.chat("Hi", max_new_tokens=1).prompt_tokens)
    config = replace(model.config, n_ctx=n_prompt + 4)
    cramped = Model(Transformer(config, model.transformer.weights, model.transformer.engine), BYTES)
    reply = cramped.chat("Hi", max_new_tokens=50, seed=3, record=("lens",))
    assert reply.finish == "context"
    assert reply.trace is not None
    assert len(reply.trace.token_ids) == config.n_ctx == n_prompt + len(reply.tokens) - 1
    np.testing.assert_allclose(reply.trace.lens_logprob[-1, -1], reply.logprobs[-1], atol=1e-4)


def test_a_pass_that_was_given_up_leaves_nothing(model: Model) -> None:
    asked = []

    def in_the_middle_of_the_third_pass() -> bool:
        asked.append(True)
        return len(asked) >= 2 * model.config.n_layers + 2

    reply = model.chat(
        "Hi", max_new_tokens=50, seed=3, record=("lens", "z"), should_stop=in_the_middle_of_the_third_pass
    )
    assert reply.finish == "interrupted"
    assert len(reply.tokens) == 2
    assert reply.trace is not None
    traced = model.trace([*reply.prompt_tokens, *reply.tokens], record=("lens", "z"))
    for name in ("router_logits", "z", "lens_entropy", "lens_kl"):
        np.testing.assert_allclose(getattr(reply.trace, name), getattr(traced, name), atol=1e-3, err_msg=name)


def test_it_sees_edits(model: Model) -> None:
    direction = torch.ones(64) * 3
    with model.edit(steer(direction, layer=1)):
        steered = model.trace(TOKENS, record=("lens",))
    plain = model.trace(TOKENS, record=("lens",))
    np.testing.assert_allclose(steered.lens_entropy[0], plain.lens_entropy[0], atol=1e-5)
    assert np.abs(steered.lens_entropy[-1] - plain.lens_entropy[-1]).max() > 0.01


def test_a_file_brings_it_back(reading: lab.Trace, tmp_path: Path) -> None:
    back = lab.load_trace(reading.save(tmp_path / "lens.trace"))
    for name in NAMES:
        np.testing.assert_array_equal(getattr(reading, name), getattr(back, name), err_msg=name)
    assert back.lens_texts == reading.lens_texts
    assert back.lens_points == reading.lens_points


# The tables, on models that are known


def test_the_answer_appears_where_the_head_that_reads_it_writes(reading: lab.Trace) -> None:
    assert lens.places(reading) == [
        "before layer 0", "after attention of layer 0", "after layer 0", "after attention of layer 1", "after layer 1"
    ]  # fmt: skip
    read_at = reading.texts.index("7")
    table = lens.readings(reading)
    after = table[table.position >= read_at]
    assert (after[after.point < 3].entropy > 5).all()
    assert (after[after.point >= 3].entropy < 0.1).all()
    assert (after[after.point >= 3].guess == "7").all()
    np.testing.assert_allclose(after[after.point < 3].kl, np.log(planted.build("reads-one").config.d_vocab), atol=0.1)
    np.testing.assert_allclose(after[after.point >= 3].kl, 0, atol=1e-3)
    assert (lens.settled_at(reading)[read_at:] == 3).all()
    said = table[(table.position == len(reading.texts) - 2) & (table.point == 3)].iloc[0]
    assert (said["rank"], said.next_text) == (0, "7")
    assert said.logprob == pytest.approx(0, abs=1e-3)


def test_guesses_have_a_row_for_every_choice(reading: lab.Trace) -> None:
    table = lens.guesses(reading)
    assert len(table) == 5 * len(reading.texts) * 5
    last = table[(table.position == len(reading.texts) - 1) & (table.point == 4)]
    assert last.guess.iloc[0] == token_id("7")
    assert last.guess_text.iloc[0] == "7"
    assert last.probability.iloc[0] == pytest.approx(1, abs=1e-3)
    assert last.logprob.is_monotonic_decreasing


def test_points_are_summed_up_over_the_chosen_tokens(reading: lab.Trace) -> None:
    where = np.arange(len(reading.texts)) >= reading.texts.index("7")
    table = lens.by_point(reading, where)
    assert table.agrees.tolist()[3:] == [1, 1]
    assert table.right.iloc[3] == pytest.approx(1 / (where.sum() - 1))  # of those whose successor is known
    assert table.entropy.iloc[0] > 5 > table.entropy.iloc[3]
    last_alone = np.arange(len(reading.texts)) == len(reading.texts) - 1
    assert np.isnan(lens.by_point(reading, last_alone).right).all()
    with pytest.raises(ValueError, match="at least one of them true"):
        lens.by_point(reading, np.zeros(len(reading.texts), dtype=bool))


def test_a_trace_without_it_says_how_to_get_it() -> None:
    with pytest.raises(ValueError, match=r'no logit lens: trace or chat with record=\("lens",\)'):
        lens.readings(conversation())
