"""Contributions: their parts sum to the logits, and say of planted models what was planted."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small import BYTES, SMALL
from traces import conversation

import gptoss_lab as lab
from gptoss_lab import edits, planted
from gptoss_lab import weights as weights_module
from gptoss_lab.analyses import contributions
from gptoss_lab.model import Transformer
from gptoss_lab.ops import ENGINES
from gptoss_lab.planted.vocabulary import token_id
from gptoss_lab.recording import Record
from gptoss_lab.session import Model

ALL = ("residual", "z", "experts")
TOKENS = [7, 250, 13, 13, 40, 99, 1, 0, 263, 7]


@pytest.fixture(params=ENGINES, scope="module")
def model(request: pytest.FixtureRequest) -> Model:
    config = replace(SMALL, d_vocab=264, n_layers=3)
    return Model(Transformer(config, weights_module.random(config, seed=2), request.param), BYTES, "small")


@pytest.fixture(scope="module")
def routing() -> Model:
    return lab.load("planted:routing", engine="torch")


def attribution(model: Model, trace: lab.Trace, *args: object, **options: object):
    return contributions.logit_attribution(trace, model.transformer.weights, model.config, *args, **options)


# Sums


@pytest.mark.parametrize(
    "record", [ALL, ("residual",), ("residual", "z"), Record(residual=range(3), z=[1], experts=[2])]
)
def test_the_parts_sum_to_the_logits_that_the_model_gave(model: Model, record: object) -> None:
    trace = model.trace(TOKENS, record=record)
    logits = model(TOKENS)[0].double().numpy()
    positions = [0, 4, 8, 9]
    for token in (5, 263):
        table = attribution(model, trace, positions, token)
        sums = table.groupby("position").logit.sum()
        np.testing.assert_allclose(sums, logits[positions, token], atol=1e-4)
        other = table[table.component == "other"]
        assert len(other) == len(positions)
        np.testing.assert_allclose(other.logit, 0, atol=1e-4)
        assert table[table.component != "other"].logit.abs().max() > 0.05


def test_every_head_and_chosen_expert_has_its_row(model: Model) -> None:
    trace = model.trace(TOKENS, record=ALL)
    table = attribution(model, trace, 5)
    assert (table.token == TOKENS[6]).all()
    heads = table[table.component == "head"]
    assert list(zip(heads.layer, heads["index"], strict=True)) == [
        (layer, head) for layer in range(3) for head in range(4)
    ]
    experts = table[table.component == "expert"]
    np.testing.assert_array_equal(experts["index"], trace.expert_indices[:, 5].ravel())
    assert table.component.value_counts().to_dict() == {
        "head": 12, "expert": 6, "attention bias": 3, "embedding": 1, "other": 1
    }  # fmt: skip


def test_a_heads_part_is_what_its_absence_takes_from_the_stream(model: Model) -> None:
    trace = model.trace(TOKENS, record=ALL)
    with model.edit(edits.ablate_head(2, layer=2)):
        without = model.trace(TOKENS, record=("residual",))
    after_attention = trace.residual_points.index("blocks.2.hook_resid_mid")
    wrote = trace.residual[after_attention, 4].astype(np.float64) - without.residual[after_attention, 4]
    weights = model.transformer.weights
    direction = weights.unembedding[5].double().numpy() * weights.final_norm.double().numpy()
    scale = np.sqrt((trace.residual[-1, 4].astype(np.float64) ** 2).mean() + model.config.norm_eps)
    table = attribution(model, trace, 4, 5)
    part = table[(table.component == "head") & (table.layer == 2) & (table["index"] == 2)].logit.iloc[0]
    assert part == pytest.approx(wrote @ direction / scale, abs=1e-4)


def test_what_edits_add_is_named_other(model: Model) -> None:
    direction = torch.ones(64) * 2
    with model.edit(edits.steer(direction, layer=1)):
        trace = model.trace(TOKENS, record=ALL)
        logits = model(TOKENS)[0].double().numpy()
    table = attribution(model, trace, [3, 6], [1, 2])
    np.testing.assert_allclose(table.groupby("position").logit.sum(), [logits[3, 1], logits[6, 2]], atol=1e-4)
    assert (table[table.component == "other"].logit.abs() > 1e-3).all()


def test_a_difference_is_the_difference(model: Model) -> None:
    trace = model.trace(TOKENS, record=ALL)
    one, other, both = (attribution(model, trace, 4, *tokens) for tokens in ((5,), (6,), (5, 6)))
    np.testing.assert_allclose(both.logit, one.logit - other.logit, atol=1e-6)


# Planted


def test_the_head_that_reads_the_answer_gives_it_its_logit() -> None:
    reads = lab.load("planted:reads-one", engine="torch")
    truth = planted.build("reads-one").truth
    trace = reads.trace("See 4. Keep 7 safe. Count 9", record=ALL)
    table = attribution(reads, trace, len(trace.texts) - 1, token_id("7"), versus=token_id("4"))
    best = table.loc[table.logit.idxmax()]
    assert (best.component, best.layer, best["index"]) == ("head", *truth.reader)
    assert best.logit == pytest.approx(table.logit.sum(), rel=0.02)
    assert best.logit > 20


def test_experts_promote_the_letters_that_were_planted(routing: Model) -> None:
    truth = planted.build("routing").truth
    trace = routing.trace("See 4 apples! Hear 2 bells.\n10 zebras jog: 3 + 55 = 58.\n", record=ALL)
    weights = routing.transformer.weights
    for layer in range(3):
        for expert in set(trace.expert_indices[layer].ravel().tolist()):
            table = contributions.promoted_by_expert(trace, weights, layer, expert, 3, routing.tokenizer)
            assert table.token.iloc[0] == truth.promotes[layer, expert]
            assert table.text.iloc[0] == "ABCDEFGHIJKLMNOPQRSTUVWX"[8 * layer + expert]
            assert table.tokens.iloc[0] == (trace.expert_indices[layer] == expert).sum()
            assert table.score.iloc[0] > 1.5 * table.score.iloc[1] > 0 > table.score.iloc[-1]
            units = contributions.unit_directions(weights, layer, expert)
            writing = units[np.abs(units).sum(axis=1) > 0]
            assert len(writing) == 1
            assert contributions.promoted(weights, writing, 1).token.iloc[0] == truth.promotes[layer, expert]
    letter = int(truth.promotes[2, trace.expert_indices[2, 9, 0]])
    table = attribution(routing, trace, 9, letter)
    assert tuple(table.loc[table.logit.idxmax(), ["component", "layer"]]) == ("expert", 2)


def test_an_experts_output_is_taken_before_it_is_weighed(model: Model) -> None:
    trace, weights = model.trace(list(range(60)), record=("experts",)), model.transformer.weights
    table = contributions.promoted_by_expert(trace, weights, 1, 4, 3)
    served = [(place, rank) for place, rank in np.ndindex(60, 2) if trace.expert_indices[1, place, rank] == 4]
    outputs = [trace.expert_out[1][place] / trace.topk_weights[1][place] for place in served]
    expected = contributions.promoted(weights, np.mean(outputs, axis=0), 3)
    assert table.tokens.iloc[0] == len(served) > 1
    assert table.token.tolist() == expected.token.tolist()
    np.testing.assert_allclose(table.score, expected.score, rtol=1e-4)


def test_an_expert_that_served_nobody_has_no_rows(routing: Model) -> None:
    trace = routing.trace("77777", record=ALL)
    idle = next(expert for expert in range(8) if expert not in trace.expert_indices[0])
    table = contributions.promoted_by_expert(trace, routing.transformer.weights, 0, idle)
    assert len(table) == 0
    assert "score" in table
    everyone = np.ones(5, dtype=bool)
    busy = int(trace.expert_indices[0, 0, 0])
    some = contributions.promoted_by_expert(trace, routing.transformer.weights, 0, busy, where=everyone)
    assert len(some) == 20
    assert (some.text == "").all()


def test_a_large_unembedding_is_widened_in_parts(routing: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = routing.transformer.weights
    directions = np.random.default_rng(0).normal(size=(2, 128)).astype(np.float32)
    whole = contributions.promoted(weights, directions, 5)
    monkeypatch.setattr("gptoss_lab.analyses.contributions.vocabulary._ROWS", 7)
    parts = contributions.promoted(weights, directions, 5)
    assert parts.token.tolist() == whole.token.tolist()
    scores = directions @ (weights.final_norm * weights.unembedding.float()).numpy().T
    scores -= scores.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(whole[whole.direction == 1].score[:5], np.sort(scores[1])[::-1][:5], rtol=1e-4)
    np.testing.assert_allclose(whole[whole.direction == 1].score[5:], np.sort(scores[1])[4::-1], rtol=1e-4)


# Shares


def test_shares_are_measured_as_they_stand(model: Model) -> None:
    trace = model.trace(TOKENS, record=("experts",))
    table = contributions.expert_shares(trace)
    assert len(table) == 3 * len(TOKENS) * 2
    np.testing.assert_allclose(table.groupby(["layer", "position"]).of_output.sum(), 1)
    row = table[(table.layer == 2) & (table.position == 4)].iloc[1]
    one, other = trace.expert_out[2, 4, 1], trace.expert_out[2, 4, 0]
    assert row["rank"] == 1
    assert row.expert == trace.expert_indices[2, 4, 1]
    assert row.norm == pytest.approx(np.linalg.norm(one))
    assert row.alike == pytest.approx(one @ other / np.linalg.norm(one) / np.linalg.norm(other), abs=1e-5)


def test_a_share_without_others_is_like_none_of_them() -> None:
    alone = np.zeros((4, len(conversation().texts), 2, 3), dtype=np.float32)
    alone[:, :, 0] = 1
    trace = replace(conversation(), expert_out=alone, expert_out_layers=(0, 1, 2, 3))
    table = contributions.expert_shares(trace)
    assert table.alike.isna().all()
    np.testing.assert_allclose(table[table["rank"] == 0].of_output, 1)


# What cannot be


def test_what_was_not_recorded_or_is_not_there_is_refused(model: Model) -> None:
    bare, trace = model.trace(TOKENS), model.trace(TOKENS, record=ALL)
    weights, config = model.transformer.weights, model.config
    with pytest.raises(ValueError, match=r'recorded at all 3 layers: record=\("residual",\)'):
        attribution(model, bare, 1)
    with pytest.raises(ValueError, match="recorded at all 3 layers"):
        attribution(model, model.trace(TOKENS, record=Record(residual=[2])), 1)
    with pytest.raises(ValueError, match="d_model 64, and the weights 32"):
        contributions.logit_attribution(trace, weights, replace(config, d_model=32), 1)
    with pytest.raises(ValueError, match="nothing is known to follow position 9"):
        attribution(model, trace, 9)
    with pytest.raises(ValueError, match=r"positions run from 0 to 9; got \[10\]"):
        attribution(model, trace, 10, 1)
    with pytest.raises(ValueError, match="token ids run from 0 to 263; got 264"):
        attribution(model, trace, 1, 264)
    with pytest.raises(ValueError, match="one for each of 2 positions"):
        attribution(model, trace, [1, 2], [3, 4, 5])
    with pytest.raises(ValueError, match="no experts' shares"):
        contributions.expert_shares(bare)
    with pytest.raises(ValueError, match="experts of layer 1 were not recorded"):
        contributions.promoted_by_expert(bare, weights, 1, 0)
    with pytest.raises(ValueError, match=r"directions: expected \[direction, 64\], found shape \(1, 5\)"):
        contributions.promoted(weights, np.zeros(5))
