"""The comparing view without a browser: what is held against what, and what is sent."""

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import traces
from test_views import ROLE, SCRIPT, hostile

from gptoss_lab.analyses import routing
from gptoss_lab.edits import mask_expert
from gptoss_lab.trace import Trace
from gptoss_lab.views import compare
from gptoss_lab.views.compare_data import MOST_FLIPS, flips, quantities
from gptoss_lab.views.compared import compared

TRACE = traces.conversation()
OTHER = traces.rerouted(TRACE)


def another_text() -> Trace:
    """Goes on otherwise after the first " carry", in one vocabulary with TRACE."""
    text = traces.THOUGHT.replace("carry 1", "hold on, carry 1")
    other = traces.conversation([*traces.ADDITION[:2], ("assistant", "analysis", None, text), traces.ADDITION[3]])
    known = dict(zip(TRACE.texts, TRACE.token_ids.tolist(), strict=True))
    ids = [known.setdefault(text, 1000 + len(known)) for text in other.texts]
    return replace(other, token_ids=np.array(ids))


def test_runs_are_compared_as_far_as_they_read_the_same() -> None:
    runs = compared(TRACE, another_text(), None, None)
    length = TRACE.texts.index(" carry")
    np.testing.assert_array_equal(runs.pairs, np.repeat(np.arange(length)[:, None], 2, axis=1))
    assert not runs.same_text
    assert compared(TRACE, OTHER, None, None).same_text
    assert "first 40 tokens, which both read alike" in compare(TRACE, another_text()).heading.value


def test_what_is_sent_is_what_the_analyses_say() -> None:
    runs = compared(TRACE, OTHER, None, None)
    table = routing.flips(TRACE, OTHER)
    data = compare(TRACE, OTHER).map.data
    sent = {
        name: np.frombuffer(data["flips"][name], "<f4" if "argin" in name else "<i4")
        for name in ("layer", "position", "left", "joined", "margin", "otherMargin")
    }
    rows = sorted(zip(*(column.tolist() for column in sent.values()), strict=True))
    columns = ["layer", "position", "left", "joined", "margin", "other_margin"]
    expected = sorted(table[columns].astype({"margin": "f4", "other_margin": "f4"}).itertuples(index=False, name=None))
    assert rows == [tuple(row) for row in expected]
    largest = np.maximum(sent["margin"], sent["otherMargin"])
    assert (np.diff(largest) <= 0).all(), "largest margins first"
    flipped, moved = quantities(runs, flips(runs))
    real = table[~table.within_noise].groupby("position").layer.nunique()
    np.testing.assert_array_equal(flipped.values, real.reindex(range(len(TRACE.texts)), fill_value=0))
    np.testing.assert_allclose(moved.values[:-1], routing.moved_weight(TRACE, OTHER), rtol=1e-6)


def test_flips_within_rounding_are_told_apart() -> None:
    nudged = traces.rerouted(TRACE, size=0)
    logits = nudged.router_logits.copy()
    first, second = TRACE.expert_indices[1, 5, -1], np.argsort(-logits[1, 5])[2]
    tied = replace(TRACE, router_logits=_with(logits, second, logits[1, 5, first] - 2e-6))
    swapped = replace(
        nudged,
        router_logits=_with(logits, second, logits[1, 5, first] + 2e-6),
        expert_indices=_with(TRACE.expert_indices, None, second),
    )
    view = compare(tied, swapped)
    assert "1 differ, 1 of them within rounding" in view.heading.value
    assert np.frombuffer(view.map.data["flips"]["noise"], "u1").tolist() == [1]
    flipped = quantities(*((runs := compared(tied, swapped, None, None)), flips(runs)))[0]
    assert flipped.values.max() == 0


def _with(values: np.ndarray, expert: Any, value: Any) -> np.ndarray:
    """A copy, changed in layer 1 at position 5."""
    values = values.copy()
    values[1, 5, -1 if expert is None else expert] = value
    return values


def test_a_comparison_brings_its_names_and_edits() -> None:
    kl = np.linspace(0, 2, len(TRACE.texts), dtype=np.float32)
    comparison: Any = SimpleNamespace(before=TRACE, after=OTHER, kl=kl, edits=(mask_expert(layer=1, expert=2),))
    view = compare(comparison)
    assert view.map.data["names"] == ["unedited", "edited"]
    assert "expert 2" in view.heading.value
    view.colour = "kl"
    with pytest.raises(ValueError, match="a comparison holds both of its own"):
        compare(comparison, TRACE)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="one trace alone"):
        compare(TRACE)
    with pytest.raises(ValueError, match="begin with different tokens"):
        compare(TRACE, replace(OTHER, token_ids=OTHER.token_ids + 1))
    with pytest.raises(ValueError, match="in one pair alone"):
        compare(TRACE, OTHER, pairs=[(1, 1), (1, 2)])
    with pytest.raises(ValueError, match="different models"):
        compare(TRACE, traces.conversation(n_experts=16))


def test_pairs_say_what_belongs_together() -> None:
    view = compare(TRACE, OTHER, pairs=[(5, 7), (6, 8)], names=("a", "b"))
    second_of = np.frombuffer(view.map.data["secondOf"], "<i4")
    assert {place: int(other) for place, other in enumerate(second_of) if other >= 0} == {5: 7, 6: 8}
    assert np.isnan(np.frombuffer(view.map.data["quantities"][0]["values"], "<f4")).sum() == len(TRACE.texts) - 2


def test_four_thousand_tokens_of_two_runs_take_less_than_five_megabytes() -> None:
    trace = traces.long(4000)
    data = compare(trace, traces.rerouted(trace)).map.data
    buffers: list[int] = []
    text = json.dumps(data, default=lambda value: buffers.append(len(value)))
    assert len(data["flips"]["layer"]) == 4 * min(data["flips"]["total"], MOST_FLIPS)
    assert sum(buffers) + len(text) <= 5_000_000


def test_an_exported_comparison_holds_hostile_text_as_data_alone(tmp_path: Any) -> None:
    trace = hostile()
    page = compare(trace, traces.rerouted(trace), names=(SCRIPT, ROLE)).to_html(tmp_path / "view.html").read_text()
    assert SCRIPT not in page
    assert ROLE not in page
