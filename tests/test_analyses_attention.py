"""Attention analyses on planted models, whose heads are known, and against slow counts."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from traces import conversation

import gptoss_lab as lab
from gptoss_lab import planted
from gptoss_lab.analyses import attention
from gptoss_lab.trace import Trace

TEXT = "See 4 apples. Keep 7 safe. See 4 apples. Hear 2 bells."


def traced(name: str, text: str = TEXT) -> Trace:
    return lab.load(f"planted:{name}", engine="torch").trace(text, record=("attention",))


def score(trace: Trace, head: tuple[int, int], name: str) -> float:
    table = attention.head_scores(trace).set_index(["layer", "head"])
    return float(table.loc[head, name])


@st.composite
def attending(draw: st.DrawFn) -> Trace:
    """A trace of few tokens, some of them repeated, whose heads look anywhere."""
    n = draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scores = np.where(np.tri(n), rng.exponential(size=(2, 3, n, n)) ** 4, 0)
    sinks = rng.exponential(size=(2, 3, n)) + 1e-6
    total = scores.sum(-1) + sinks
    base = conversation()
    return replace(
        base,
        token_ids=rng.integers(3, size=n),
        texts=base.texts[:n],
        spans=base.spans[:n],
        patterns=(scores / total[..., None]).astype(np.float32),
        sinks=(sinks / total).astype(np.float32),
        attention_layers=(0, 3),
        attention_heads=(1, 2, 5),
    )


def test_heads_that_look_back_are_found_by_their_distance() -> None:
    trace = traced("previous-token")
    truth = planted.build("previous-token").truth
    table = attention.head_scores(trace).set_index(["layer", "head"])
    previous = {head for head, distance in truth.distances.items() if distance == 1}
    assert set(table.index[table.previous_token > 0.9]) == previous
    assert set(table.index[table.itself > 0.9]) == {head for head, distance in truth.distances.items() if distance == 0}
    profile = attention.distance_profile(trace)
    for (layer, head), distance in truth.distances.items():
        expected = np.zeros(len(trace.token_ids))
        expected[distance] = 1
        np.testing.assert_allclose(profile[layer, head], expected, atol=1e-3)


def test_an_induction_pair_is_found() -> None:
    trace = traced("induction")
    truth = planted.build("induction").truth
    table = attention.head_scores(trace).set_index(["layer", "head"])
    assert table.induction.idxmax() == truth.induction_head
    assert table.previous_token.idxmax() == truth.previous_token_head
    assert table.loc[truth.induction_head, "induction"] > 0.99
    assert table.drop(index=truth.induction_head).induction.max() < 0.3
    # Without repetition there is nothing to continue: the head is parked, and nothing is said of induction.
    unrepeated = attention.head_scores(traced("induction", "abcdef")).set_index(["layer", "head"])
    assert np.isnan(unrepeated.loc[truth.induction_head, "induction"])
    assert unrepeated.loc[truth.induction_head, "parked"] == 1


def test_heads_that_wait_are_parked_until_they_are_woken() -> None:
    truth = planted.build("sink-parking").truth
    trace = traced("sink-parking", "abcdef!ghijkl")
    table = attention.head_scores(trace).set_index(["layer", "head"])
    for head in truth.parking:
        assert table.loc[head, "parked"] == pytest.approx(6 / 13)
        assert table.loc[head, "sink"] == pytest.approx(6 / 13, abs=1e-3)
    woken = np.arange(13) >= 6
    awake = attention.head_scores(trace, woken).set_index(["layer", "head"])
    assert all(awake.loc[head, "parked"] == 0 for head in truth.parking)
    blank = table.drop(index=list(truth.parking))
    assert (blank.parked == 0).all()


def test_a_window_ends_where_it_ends_and_the_rest_sees_all() -> None:
    trace = traced("previous-token", "ab " * 70)
    assert len(trace.token_ids) > 130
    window, whole = ((0, 3), (1, 3))  # blank heads, which look at all that they may see
    profile = attention.distance_profile(trace)
    assert profile[window][127] > 0
    assert profile[window][128] == 0
    assert profile[whole][128] > 0
    table = attention.distances(trace)
    far = table[(table.nearest == 128) & (table["head"] == 3)].set_index("sees").weight
    assert far["window"] == 0
    assert far["all"] > 0
    np.testing.assert_allclose(table.groupby(["layer", "head"]).weight.sum(), 1, atol=1e-5)


def test_the_reader_looks_at_the_sentence_that_decides() -> None:
    truth = planted.build("reads-one").truth
    trace = traced("reads-one", "See 4. Keep 7 safe. Hear 2. So: ")
    texts = trace.texts
    stops = [position + 1 for position, text in enumerate(texts) if text.strip() == "."]
    sentences = [range(start, stop) for start, stop in zip([0, *stops], stops, strict=False)]
    after = np.arange(len(texts)) >= stops[-1]
    table = attention.to_stretches(trace, sentences, after)
    of_reader = table[(table.layer == truth.reader[0]) & (table["head"] == truth.reader[1])].set_index("stretch")
    assert of_reader.loc[1, "text"].strip() == "Keep 7 safe."
    assert of_reader.loc[1, "weight"] == pytest.approx(1, abs=1e-3)
    assert of_reader.loc[1, "per_token"] == pytest.approx(1 / len(sentences[1]), abs=1e-3)
    assert of_reader.drop(index=1).weight.abs().max() < 1e-3
    assert of_reader.loc[attention.SINK, "text"] == "(sink)"
    np.testing.assert_allclose(table.groupby(["layer", "head"]).weight.sum(), 1, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(attending(), st.integers(0, 2**9 - 1))
def test_scores_are_those_of_a_slow_count(trace: Trace, bits: int) -> None:
    n = len(trace.token_ids)
    where = np.array([bits >> position & 1 == 1 for position in range(n)])
    where[0] |= not where.any()
    table = attention.head_scores(trace, where).set_index(["layer", "head"])
    ids = trace.token_ids
    for layer, head, pattern, sink in attention.heads(trace):
        looking = [position for position in range(n) if where[position]]
        same = {i: [j for j in range(i) if ids[j] == ids[i]] for i in looking}
        row = table.loc[(layer, head)]
        expected = {
            "itself": [pattern[i, i] for i in looking],
            "previous_token": [pattern[i, i - 1] for i in looking if i],
            "first_token": [pattern[i, 0] for i in looking if i],
            "duplicate": [sum(pattern[i, j] for j in same[i]) for i in looking if same[i]],
            "induction": [sum(pattern[i, j + 1] for j in same[i]) for i in looking if same[i]],
            "sink": [sink[i] for i in looking],
            "parked": [sink[i] > 0.5 for i in looking],
        }
        for name, values in expected.items():
            np.testing.assert_allclose(row[name], np.mean(values) if values else np.nan, atol=1e-6, err_msg=name)
    profile, bands = attention.distance_profile(trace, where), attention.distances(trace, where)
    band = bands[(bands.layer == 3) & (bands["head"] == 5)]
    for row in band[band.nearest >= 0].itertuples():
        places = [(i, j) for i in looking for j in range(i + 1) if row.nearest <= i - j <= row.farthest]
        expected_weight = sum(trace.patterns[1, 2, i, j] for i, j in places) / len(looking)
        assert row.weight == pytest.approx(expected_weight, abs=1e-6)
    assert band.farthest.max() >= n - 1
    for distance in range(n):
        values = [trace.patterns[:, :, i, i - distance] for i in range(distance, n) if where[i]]
        expected_profile = np.mean(values, axis=0) if values else np.full((2, 3), np.nan)
        np.testing.assert_allclose(profile[:, :, distance], expected_profile, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(attending())
def test_nothing_is_lost_in_tables(trace: Trace) -> None:
    n = len(trace.token_ids)
    halves = [range(n // 2), range(n // 2, n)] if n > 1 else [range(n)]
    for table in (attention.distances(trace), attention.to_stretches(trace, halves[:1])):
        assert (table.weight > -1e-6).all()
        np.testing.assert_allclose(table.groupby(["layer", "head"]).weight.sum(), 1, atol=1e-5)
    for layer in trace.attention_layers:
        np.testing.assert_allclose(attention.with_sink(trace, layer, 5).sum(axis=1), 1, atol=1e-5)


def test_wrong_arguments_say_what_is_expected() -> None:
    trace = traced("previous-token", "abc")
    with pytest.raises(ValueError, match=r'no attention: trace or chat with record=\("attention",\)'):
        attention.head_scores(conversation())
    with pytest.raises(ValueError, match="head 9 of layer 0 was not recorded; there are layers"):
        attention.with_sink(trace, 0, 9)
    with pytest.raises(ValueError, match="expected 3 booleans"):
        attention.head_scores(trace, np.array([True]))
    with pytest.raises(ValueError, match="from 1 to 9 is none of these 3 tokens"):
        attention.to_stretches(trace, [range(1, 9)])
    with pytest.raises(ValueError, match="overlap"):
        attention.to_stretches(trace, [range(2), range(1, 3)])
