"""How routers choose: sureness, pairs, paths and differences, on a planted model and against slow counts."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from traces import conversation

import gptoss_lab as lab
from gptoss_lab import edits, planted
from gptoss_lab.analyses import routing

TEXT = "See 4 apples! Hear 2 bells.\nKeep 7 safe.\n10 zebras jog: 3 + 55 = 58.\n"
TRUTH = planted.build("routing").truth


@pytest.fixture(scope="module")
def model() -> lab.Model:
    return lab.load("planted:routing", engine="torch")


@pytest.fixture(scope="module")
def trace(model: lab.Model) -> lab.Trace:
    return model.trace(TEXT)


def everything(trace: lab.Trace) -> np.ndarray:
    return np.ones(len(trace.token_ids), dtype=bool)


# How sure


def test_sureness_is_what_is_planted(trace: lab.Trace) -> None:
    weights = np.array(TRUTH.weights)
    np.testing.assert_allclose(routing.weight_entropy(trace), -(weights * np.log(weights)).sum(), atol=1e-3)
    logits = np.array([8, 7, 0, 0, 0, 0, 0, -7.0])  # of the expert of the class, and the helpers
    assert (routing.router_entropy(trace) > routing.weight_entropy(trace)).all()
    shares = np.exp(logits) / np.exp(logits).sum()
    assert routing.router_entropy(trace).max() == pytest.approx(-(shares * np.log(shares)).sum(), abs=0.01)
    table = routing.by_layer(trace, everything(trace), noise=6.9)
    np.testing.assert_allclose(table.margin, TRUTH.margin, atol=0.05)
    assert (table.close == 0).all()
    assert (routing.by_layer(trace, everything(trace), noise=7.1).close == 1).all()


def test_how_evenly_the_work_is_shared() -> None:
    trace = conversation(n_layers=1, n_experts=4, k=1)
    n = len(trace.token_ids)
    even = replace(trace, expert_indices=(np.arange(n) % 2)[None, :, None], topk_weights=np.ones((1, n, 1), np.float32))
    where = np.arange(n) < 2 * (n // 2)
    row = routing.by_layer(even, where).iloc[0]
    assert row.effective_experts == pytest.approx(2)
    assert (row.busiest, row.idle, row.weight_entropy) == (0.5, 2, 0)
    with pytest.raises(ValueError, match="no token counts"):
        routing.by_layer(trace, ~everything(trace))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_equal_logits_are_the_most_undecided(seed: int) -> None:
    trace = conversation(seed=seed)
    entropy = routing.router_entropy(trace)
    assert (entropy >= 0).all()
    assert (entropy <= np.log(8) + 1e-9).all()
    undecided = replace(trace, router_logits=np.full_like(trace.router_logits, 1e4))
    np.testing.assert_allclose(routing.router_entropy(undecided), np.log(8))


# Together


def test_experts_of_different_classes_never_meet(trace: lab.Trace) -> None:
    table = routing.coactivation(trace, everything(trace)).set_index(["layer", "expert", "other"])
    chosen = TRUTH.experts(trace.token_ids.tolist())
    for layer in range(3):
        of_classes = sorted(set(TRUTH.expert_of_class[layer].tolist()))
        for expert, other in combinations(range(8), 2):
            met = [expert in pair and other in pair for pair in chosen[layer].tolist()]
            assert table.loc[(layer, expert, other), "tokens"] == sum(met)
            if expert in of_classes and other in of_classes:
                assert table.loc[(layer, expert, other), "tokens"] == 0
    used = table[table.expected > 1]
    assert used.lift.max() > 1.1
    assert used.lift.min() == 0


def test_experts_drawn_by_popularity_alone_have_no_lift() -> None:
    rng = np.random.default_rng(0)
    n = 40_000
    taste = np.array([2.0, 1.5, 1, 0.5, 0, 0, -1, -20])
    logits = (taste + rng.gumbel(size=(1, n, 8))).astype(np.float32)
    # Draw triples by conditional Bernoulli: throw coins, and keep those throws that give three.
    throws = rng.random((40 * n, 8)) < 1 / (1 + np.exp(1 - taste))
    triples = throws[throws.sum(axis=1) == 3][:n]
    indices = np.argsort(~triples, axis=1, kind="stable")[None, :, :3]
    base = conversation()
    trace = replace(
        base,
        token_ids=np.zeros(len(triples), dtype=np.int64),
        router_logits=logits[:, : len(triples)],
        expert_indices=indices,
        topk_weights=np.full(indices.shape, 1 / 3, dtype=np.float32),
    )
    table = routing.coactivation(trace, np.ones(len(triples), dtype=bool))
    seen = table[table.expected > 400]
    assert len(seen) > 15
    np.testing.assert_allclose(seen.lift, 1, atol=0.12)
    assert table[table.other == 7].lift.isna().all()
    independent = np.outer(triples.mean(axis=0), triples.mean(axis=0))[seen.expert, seen.other] * len(triples)
    assert (seen.tokens / independent).mean() < 0.9  # what a plain product would make of it


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(1e-4, 1e4), min_size=3, max_size=7), st.integers(1, 3))
@example([1.0, 2.0, 11.0], 2)  # where one is nearly always there, fitting is slow unless it is done well
def test_meeting_chances_are_those_of_all_sets_counted_out(odds: list[float], k: int) -> None:
    n = len(odds)
    k = min(k, n - 1)
    sets = list(combinations(range(n), k))
    products = np.array([np.prod([odds[expert] for expert in one]) for one in sets])
    probabilities = products / products.sum()
    meeting = np.zeros((n, n))
    for one, probability in zip(sets, probabilities, strict=True):
        meeting[np.ix_(one, one)] += probability
    np.testing.assert_allclose(routing.meeting_chances(meeting.diagonal().copy(), k), meeting, atol=1e-7)


def test_experts_that_serve_all_tokens_or_none_disturb_nothing() -> None:
    found = routing.meeting_chances(np.array([1, 0.5, 0.5, 0, 0]), 2)
    np.testing.assert_allclose(found[0], [1, 0.5, 0.5, 0, 0], atol=1e-6)
    np.testing.assert_allclose(found[1, 2], 0, atol=1e-6)
    alone = routing.meeting_chances(np.array([0.75, 0.25, 0]), 1)
    np.testing.assert_allclose(alone, np.diag([0.75, 0.25, 0]), atol=1e-9)
    np.testing.assert_allclose(routing.meeting_chances(np.full(128, 4 / 128), 4)[0, 1], 4 * 3 / (128 * 127), rtol=1e-6)


# Paths


def test_equal_tokens_take_equal_paths_and_others_share_what_they_share(trace: lab.Trace) -> None:
    similarity = routing.path_similarity(trace, everything(trace))
    chosen = TRUTH.experts(trace.token_ids.tolist())
    n = len(trace.token_ids)
    expected = [
        [np.mean([len(set(chosen[layer, a]) & set(chosen[layer, b])) / 2 for layer in range(3)]) for b in range(n)]
        for a in range(n)
    ]
    np.testing.assert_allclose(similarity, expected, atol=1e-6)
    np.testing.assert_array_equal(routing.path(trace, 3), trace.expert_indices[:, 3])
    of_first_layers = routing.path_similarity(trace, everything(trace), layers=[0, 1])
    same = trace.token_ids[:, None] == trace.token_ids
    np.testing.assert_allclose(of_first_layers[same], 1)
    assert of_first_layers[~same].min() == 0


def test_the_most_alike_come_first(trace: lab.Trace) -> None:
    position = trace.texts.index("5")
    table = routing.most_alike(trace, position, n=5, layers=[0, 1])
    assert position not in table.position.tolist()
    alike = table.text[table.similarity == 1]
    assert len(alike) > 1
    assert alike.str.isdigit().all()
    assert table.usual.iloc[0] < 0.6
    assert table.similarity.is_monotonic_decreasing
    with pytest.raises(IndexError, match="there is no token 999"):
        routing.most_alike(trace, 999)


# Differences


def test_a_run_differs_from_itself_in_nothing(trace: lab.Trace) -> None:
    assert len(routing.flips(trace, trace)) == 0
    assert "margin" in routing.flips(trace, trace)
    table = routing.flips_by_layer(trace, trace)
    assert (table[["changed", "beyond_noise", "moved"]] == 0).all(axis=None)


def test_a_masked_expert_gives_way_where_it_served(model: lab.Model, trace: lab.Trace) -> None:
    expert = int(TRUTH.expert_of_class[1, 1])  # of digits, in layer 1
    with model.edit(edits.mask_expert(expert, layer=1)):
        masked = model.trace(TEXT)
    table = routing.flips(trace, masked)
    assert set(table.layer) == {1}
    assert (table.left == expert).all()
    served = [position for position, pair in enumerate(trace.expert_indices[1]) if expert in pair]
    assert table.position.tolist() == served
    np.testing.assert_allclose(table.margin, 8, atol=0.05)
    assert not table.within_noise.any()
    share = len(served) / len(trace.token_ids)
    by_layer = routing.flips_by_layer(trace, masked).set_index("layer")
    assert by_layer.loc[1, "changed"] == by_layer.loc[1, "beyond_noise"] == pytest.approx(share)
    assert by_layer.loc[0, "changed"] == 0
    moved = routing.moved_weight(trace, masked)
    np.testing.assert_allclose(moved[1][served], TRUTH.weights[0], atol=1e-3)  # the helper keeps its place, and gains


def test_runs_that_choose_fewer_experts_are_compared_too(model: lab.Model, trace: lab.Trace) -> None:
    with model.edit(edits.set_top_k(1, layer=1)):
        fewer = model.trace(TEXT)
    table = routing.flips(trace, fewer)
    n = len(trace.token_ids)
    assert table.left.tolist() == trace.expert_indices[1, :, 1].tolist()
    assert (table.joined == -1).all()
    assert table.margin.isna().all()
    assert not table.within_noise.any()
    back = routing.flips(fewer, trace)
    assert back.joined.tolist() == table.left.tolist()
    assert (back.left == -1).all()
    assert routing.expert_sums(fewer, everything(fewer))[1].sum(axis=1).tolist() == [2 * n, n, 2 * n]
    pairs = routing.coactivation(fewer, everything(fewer))
    assert pairs[pairs.layer == 1].tokens.sum() == 0 == pairs[pairs.layer == 1].expected.sum()


def test_flips_that_rounding_can_make_are_marked() -> None:
    before = conversation()
    logits = before.router_logits.copy()
    position, layer = 7, 2
    last, first_out = np.argsort(-logits[layer, position])[[1, 2]]
    logits[layer, position, first_out] = logits[layer, position, last] - 4e-6
    before = replace(before, router_logits=logits)
    nudged = logits.copy()
    nudged[layer, position, first_out] = logits[layer, position, last] + 4e-6
    indices = before.expert_indices.copy()
    indices[layer, position, 1] = first_out
    after = replace(before, router_logits=nudged, expert_indices=indices)
    row = routing.flips(before, after).iloc[0]
    assert (row.layer, row.position, row.left, row.joined) == (layer, position, last, first_out)
    assert row.margin == pytest.approx(4e-6, abs=1e-6)
    assert row.within_noise
    assert not routing.flips(before, after, noise=1e-6).within_noise.any()
    assert routing.flips_by_layer(before, after).beyond_noise.sum() == 0


def test_where_several_give_way_the_weakest_does_to_the_strongest() -> None:
    base = conversation(n_layers=1, n_experts=6, k=3)

    def choosing(logits: list[float]) -> lab.Trace:
        row = np.array(logits, dtype=np.float32)
        return replace(
            base,
            token_ids=base.token_ids[:1],
            router_logits=row[None, None],
            expert_indices=np.argsort(-row)[None, None, :3],
            topk_weights=np.full((1, 1, 3), 1 / 3, dtype=np.float32),
        )

    before, after = choosing([9, 2, 1.5, 1, 0.5, 0]), choosing([9, 0, 1, 3, 4, 0.5])
    table = routing.flips(before, after)
    assert list(zip(table.left, table.joined, strict=True)) == [(2, 4), (1, 3)]
    np.testing.assert_allclose(table.margin, [1, 1])
    np.testing.assert_allclose(table.other_margin, [3, 3])
    assert routing.flips_by_layer(before, after).changed.tolist() == [1]
    for noise, within in ((2.9, False), (3.1, True)):
        assert (routing.flips(before, after, noise=noise).within_noise == within).all()
        assert (routing.flips(after, before, noise=noise).within_noise == within).all()


def test_other_tokens_can_be_held_against_each_other(trace: lab.Trace) -> None:
    digits = [position for position, text in enumerate(trace.texts) if text == "5"]
    letter = trace.texts.index("j")
    same = routing.flips(trace, trace, pairs=[(digits[0], digits[1])])
    assert (same.layer == 2).all()  # where routing is by the token before
    other = routing.flips(trace, trace, pairs=[(digits[0], letter)])
    assert {0, 1} <= set(other.layer)
    assert (other.other_text == "j").all()
    first = other[other.layer == 0].iloc[0]
    assert first.margin > 0
    assert first.other_margin > 0


def test_traces_of_different_models_are_not_compared(trace: lab.Trace) -> None:
    with pytest.raises(ValueError, match=r"different models: layers and experts are \(3, 8\) and \(4, 8\)"):
        routing.flips(trace, conversation())
    with pytest.raises(ValueError, match="pairs: expected positions"):
        routing.flips(trace, trace, pairs=[(0, 9999)])


def test_token_classes_are_told_by_their_text(trace: lab.Trace) -> None:
    odd = replace(trace, texts=["<|start|>", "\n", " 12", "a1", "é", "+", "�"], spans=trace.spans[:7])
    assert list(routing.labels(odd, "class")) == ["control", "blank", "digit", "letter", "letter", "sign", "sign"]
