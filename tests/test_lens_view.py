"""The lens view without a browser: what is sent to it is what the trace holds, small enough."""

import json
import re
from dataclasses import replace
from pathlib import Path

import lensed
import numpy as np
import pytest
import traces
import traitlets
from test_attention_view import size
from test_views import ROLE, SCRIPT, hostile

from gptoss_lab.trace import Trace
from gptoss_lab.views import front_end, lens
from gptoss_lab.views.lens_data import lens_data
from gptoss_lab.views.plain_text import quoted


@pytest.fixture(scope="module")
def trace() -> Trace:
    return lensed.conversation()


def test_a_trace_without_a_lens_says_how_to_record_it() -> None:
    with pytest.raises(ValueError, match='record=\\("lens",\\)'):
        lens(traces.conversation())


def test_data_holds_the_trace(trace: Trace) -> None:
    assert trace.lens_tokens is not None
    assert trace.lens_logprobs is not None
    assert trace.lens_entropy is not None
    data = lens_data(trace)
    n_points, n, n_choices = trace.lens_tokens.shape
    assert data["nGuesses"] == n_choices
    guesses = np.frombuffer(data["guesses"], "<u2").reshape(n, n_points, n_choices)
    for point, position, choice in ((0, 0, 0), (3, 20, 4), (8, n - 1, 2)):
        expected = quoted(trace.lens_texts[int(trace.lens_tokens[point, position, choice])])
        assert data["texts"][guesses[position, point, choice]] == expected
    probabilities = np.frombuffer(data["probabilities"], "<u2").reshape(n, n_points, n_choices) / 65535
    np.testing.assert_allclose(probabilities, np.exp(trace.lens_logprobs).swapaxes(0, 1), atol=1e-5)
    entropies = np.frombuffer(data["entropies"], "<u2").reshape(n, n_points) / 65535 * data["mostEntropy"]
    np.testing.assert_allclose(entropies, trace.lens_entropy.T, atol=1e-4)
    assert data["next"][:-1] == [quoted(text) for text in trace.texts[1:]]
    assert data["points"][:4] == ["start", "0 attn", "layer 0", "1 attn"]
    assert data["isLayerEnd"][:4] == [True, False, True, False]


def test_what_came_next_is_known_but_for_the_last_token(trace: Trace) -> None:
    assert trace.lens_rank is not None
    assert trace.lens_tokens is not None
    data = lens_data(trace)
    n = len(trace.token_ids)
    has_next = np.frombuffer(data["hasNext"], "u1")
    assert has_next.tolist() == [1] * (n - 1) + [0]
    ranks = np.frombuffer(data["ranks"], "<u2").reshape(n, -1)
    np.testing.assert_array_equal(ranks[:-1], trace.lens_rank.T[:-1])
    assert data["next"][-1] == ""
    rank = trace.lens_rank.copy()
    rank[:, -1] = 1
    rank[:, 3] = 0
    known = lens_data(replace(trace, lens_rank=rank))
    assert set(known["hasNext"]) == {1}
    assert known["next"][-1] == quoted(trace.lens_texts[int(trace.lens_tokens[-1, -1, 1])])


def test_four_thousand_tokens_take_less_than_five_megabytes() -> None:
    long = lensed.with_lens(traces.long(4000, 2, 4, 2), n_layers=24)
    data = lens_data(long)
    assert data["nGuesses"] == 5
    assert size(data) <= 5_000_000
    # As many texts as there are guesses, at the larger model's depth: fewer guesses a place, and still the likeliest.
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 200_000, size=(73, 2000, 5))
    many = replace(
        traces.long(2000, 2, 4, 2),
        lens_points=tuple(f"blocks.{point}.hook_resid_post" for point in range(73)),
        lens_tokens=tokens,
        lens_texts={int(token): f"t{token}" for token in np.unique(tokens)},
        lens_logprobs=np.log(rng.uniform(size=tokens.shape)),
        lens_entropy=rng.uniform(size=tokens.shape[:2]),
        lens_rank=rng.integers(0, 200_000, size=tokens.shape[:2]),
    )
    data = lens_data(many)
    assert 1 <= data["nGuesses"] < 5
    assert size(data) <= 5_000_000
    first = np.frombuffer(data["guesses"], "<u4")[0]
    assert data["texts"][first] == f"t{tokens[0, 0, 0]}"
    assert np.frombuffer(data["ranks"], "<u2").max() == data["farthestRank"]


def test_view_and_parts_follow_one_another(trace: Trace) -> None:
    view = lens(trace)
    view.grid.pinned, view.grid.point = 12, 3
    assert (view.pinned, view.point) == (12, 3)
    view.buttons["colour"].value = "rank"
    view.buttons["detail"].value = "all"
    assert (view.colour, view.grid.detail) == ("rank", "all")
    with pytest.raises(traitlets.TraitError, match="pinned=1000: this trace has tokens 0 to"):
        view.pinned = 1000
    with pytest.raises(traitlets.TraitError, match=r"points 0 \(before layer 0\) to 8 \(after layer 3\)"):
        view.point = 9
    with pytest.raises(traitlets.TraitError):
        view.colour = "mood"
    assert (view.pinned, view.point, view.colour) == (12, 3, "rank")


def test_another_trace_can_be_shown_in_place(trace: Trace) -> None:
    view = lens(lensed.with_lens(traces.long(100, 2, 4, 2)))
    view.pinned, view.point = 90, 1
    view.show(trace)
    assert (view.pinned, view.point) == (None, None)
    assert view.grid.data["nTokens"] == len(trace.token_ids)


def test_an_exported_page_holds_hostile_text_as_data_alone(tmp_path: Path) -> None:
    page = lens(lensed.with_lens(hostile())).to_html(tmp_path / "view.html").read_text(encoding="utf-8")
    assert SCRIPT not in page
    assert ROLE not in page
    assert len(re.findall(r"<script[^>]*>", page)) == 3
    state = json.loads(re.search(r'id="state">(.*?)</script>', page, re.DOTALL).group(1))  # type: ignore[union-attr]
    assert SCRIPT in state["data"]["texts"]
    assert "a⟨U+202E⟩b" in state["data"]["texts"]


def test_modules_are_joined_into_one() -> None:
    live, page = front_end.module("lens_grid.js"), front_end.module("lens_page.js")
    assert re.findall(r"^export .*", live, re.MULTILINE) == ["export default { render };"]
    names = re.findall(r"^(?:async )?(?:function|const|let|class) (\w+)", page, re.MULTILINE)
    assert len(names) == len(set(names)), "top-level names must differ"
