"""The attention view without a browser: what is sent to it is what the trace holds, small enough."""

import json
import re
from pathlib import Path
from typing import Any

import attentive
import numpy as np
import pytest
import traces
import traitlets
from test_views import ROLE, SCRIPT, hostile

from gptoss_lab.trace import Trace
from gptoss_lab.views import attention, front_end
from gptoss_lab.views.attention_data import (
    N_READS,
    PAGE_BYTES,
    large,
    overview,
    page_heads,
    picture,
    reach_in_words,
    strongest,
)
from gptoss_lab.views.attention_map import AttentionMap


@pytest.fixture(scope="module")
def trace() -> Trace:
    return attentive.conversation()


def test_a_trace_without_attention_says_how_to_record_it() -> None:
    with pytest.raises(ValueError, match='record=\\("routing", "attention"\\)'):
        attention(traces.conversation())


def test_a_picture_shows_the_largest_weight_of_each_square(trace: Trace) -> None:
    assert trace.patterns is not None
    pattern = trace.patterns[1, 1]
    whole = picture(pattern, len(pattern))
    np.testing.assert_allclose((whole / 255) ** 2, pattern, atol=2 / 255)
    assert ((whole > 0) == (pattern > 0)).all(), "only what cannot be seen is 0"
    small = picture(pattern, 10)
    starts = [*(place * len(pattern) // 10 for place in range(10)), len(pattern)]
    square = pattern[starts[7] : starts[8], starts[2] : starts[3]]
    assert small[7, 2] == np.ceil(255 * np.sqrt(square.max()))


def test_reads_are_the_strongest_in_order(trace: Trace) -> None:
    assert trace.patterns is not None
    pattern = trace.patterns[1, 2]
    expected = np.sort(pattern, axis=1)[:, ::-1][:, :5]
    np.testing.assert_array_equal(np.take_along_axis(pattern, strongest(pattern, 5), axis=1), expected)


def test_a_head_is_sent_as_it_is(trace: Trace) -> None:
    assert trace.patterns is not None
    assert trace.sinks is not None
    n = len(trace.token_ids)
    sent = large(trace, 2, 3)
    keys = np.frombuffer(sent["keys"], "<u2").reshape(n, N_READS)
    weights = np.frombuffer(sent["weights"], "<u2").reshape(n, N_READS) / 65535
    np.testing.assert_allclose(np.take_along_axis(trace.patterns[2, 3], keys.astype(int), axis=1), weights, atol=1e-5)
    np.testing.assert_allclose(np.frombuffer(sent["sinks"], "<u2") / 65535, trace.sinks[2, 3], atol=1e-5)
    assert sent["head"] == [2, 3]


def test_heads_keep_their_numbers_where_not_all_were_recorded() -> None:
    trace = attentive.with_attention(traces.conversation(), layers=(1, 3), heads=(2, 7))
    view = attention(trace)
    view.head = (3, 7)
    assert view.map.large == large(trace, 3, 7)
    with pytest.raises(traitlets.TraitError, match=r"head=\(0, 2\): .* layers 1, 3 and heads 2, 7"):
        view.head = (0, 2)
    assert view.head == (3, 7)


def test_reach_tells_window_layers_from_full_ones(trace: Trace) -> None:
    assert overview(trace)["reaches"] == [f"window {attentive.WINDOW}", "sees all"] * 2
    sparse = np.zeros((1, 40, 40), dtype=np.float32)
    sparse[0, np.arange(1, 40), np.arange(39)] = 1
    sparse[0, 0, 0] = 1
    assert reach_in_words(sparse) == "window 2"
    sparse[0, 20, 10] = 0.5
    assert reach_in_words(sparse) == "up to 10 back"


def test_overview_and_one_head_take_less_than_five_megabytes() -> None:
    trace = attentive.with_attention(traces.long(4000, 2, 4, 2), layers=(0, 1), heads=(0,))
    view = AttentionMap(trace)
    assert size(view.data) + size(view.large) <= 5_000_000
    # The shape of the 20b, all heads, of a text that is short enough to record them all.
    many = attentive.with_attention(traces.long(40, 2, 4, 2), layers=tuple(range(24)), heads=tuple(range(64)))
    assert size(overview(many)) <= 2_500_000


@pytest.mark.parametrize(("n_tokens", "n_layers", "n_heads"), [(200, 6, 8), (400, 6, 8), (2000, 1, 8), (2000, 1, 2)])
def test_a_page_holds_as_many_heads_as_it_may(n_tokens: int, n_layers: int, n_heads: int) -> None:
    trace = attentive.with_attention(
        traces.long(n_tokens, 2, 4, 2), layers=tuple(range(n_layers)), heads=tuple(range(n_heads))
    )
    first = (n_layers - 1, n_heads - 1)
    heads = page_heads(trace, first)
    assert heads[0]["head"] == list(first)
    assert len({tuple(head["head"]) for head in heads}) == len(heads) == n_layers * n_heads
    assert sum(map(size, heads)) <= PAGE_BYTES + 100 * len(heads)
    few = page_heads(trace, first, n_bytes=size(heads[0]))
    assert 1 <= len(few) <= n_layers * n_heads
    assert few[0]["head"] == list(first)


def size(state: Any) -> int:
    """Bytes of a view's state, in buffers and in JSON."""
    if isinstance(state, bytes):
        return len(state)
    if isinstance(state, dict):
        return sum(len(name) + 4 + size(value) for name, value in state.items())
    return sum(map(size, state)) if isinstance(state, list) else len(json.dumps(state)) + 1


def test_view_and_parts_follow_one_another(trace: Trace) -> None:
    view = attention(trace)
    view.map.head, view.map.pinned = (2, 1), 12
    assert (view.head, view.pinned) == ((2, 1), 12)
    assert view.map.large["head"] == [2, 1]
    view.direction_buttons.value = "read by"
    assert (view.direction, view.map.direction) == ("read by", "read by")
    with pytest.raises(traitlets.TraitError, match="pinned=1000: this trace has tokens 0 to"):
        view.pinned = 1000
    with pytest.raises(traitlets.TraitError):
        view.direction = "sideways"


def test_it_opens_at_a_head_that_reads(trace: Trace) -> None:
    assert trace.sinks is not None
    layer, head = attention(trace).head
    assert trace.sinks[layer, head].mean() == trace.sinks.mean(axis=2).min()


def test_another_trace_can_be_shown_in_place(trace: Trace) -> None:
    view = attention(attentive.with_attention(traces.long(100, 2, 4, 2), layers=(5,), heads=(1,)))
    view.pinned = 90
    view.show(trace)
    assert view.pinned is None
    assert view.head in {(layer, head) for layer in range(4) for head in range(4)}
    assert view.map.large["head"] == list(view.head)
    assert view.map.data["nTokens"] == len(trace.token_ids)


def test_an_exported_page_holds_hostile_text_as_data_alone(tmp_path: Path) -> None:
    page = attention(attentive.with_attention(hostile())).to_html(tmp_path / "view.html").read_text(encoding="utf-8")
    assert SCRIPT not in page
    assert ROLE not in page
    assert len(re.findall(r"<script[^>]*>", page)) == 3
    assert (
        "⟨U+202E⟩"
        in json.loads(re.search(r'id="state">(.*?)</script>', page, re.DOTALL).group(1))[  # type: ignore[union-attr]
            "data"
        ]["quoted"][6]
    )


def test_modules_are_joined_into_one() -> None:
    live, page = front_end.module("attention_map.js"), front_end.module("attention_page.js")
    assert re.findall(r"^export .*", live, re.MULTILINE) == ["export default { render };"]
    names = re.findall(r"^(?:async )?(?:function|const|let|class) (\w+)", page, re.MULTILINE)
    assert len(names) == len(set(names)), "top-level names must differ"
