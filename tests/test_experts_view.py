"""The experts view without a browser: what is sent to it is what the analyses say, small enough."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import traces
import traitlets
from test_attention_view import size
from test_views import ROLE, SCRIPT, hostile

import gptoss_lab as lab
from gptoss_lab.analyses import contributions, routing
from gptoss_lab.session import Model
from gptoss_lab.trace import Trace
from gptoss_lab.views import experts, front_end
from gptoss_lab.views.experts_chart import ExpertChart
from gptoss_lab.views.experts_data import Promotions, Statistics, experts_data


@pytest.fixture(scope="module")
def trace() -> Trace:
    return traces.conversation()


@pytest.fixture(scope="module")
def planted() -> Iterator[Model]:
    yield lab.load("planted:routing", engine="torch")


@pytest.fixture(scope="module")
def planted_trace(planted: Model) -> Trace:
    return planted.trace(list(range(20)), record=("routing", "experts"))


def test_statistics_are_the_analyses_over_the_replys_content(trace: Trace) -> None:
    statistics = Statistics(trace)
    where = routing.reply(trace) & routing.content(trace)
    assert statistics.counted == "the reply's content tokens"
    assert statistics.n_tokens == where.sum()
    np.testing.assert_allclose(statistics.shares.sum(axis=1), trace.expert_indices.shape[2])
    together = routing.coactivation(trace).set_index(["layer", "expert", "other"])
    assert statistics.together[2, 1, 5] == statistics.together[2, 5, 1] == together.loc[(2, 1, 5), "tokens"]
    assert statistics.by_chance[2, 1, 5] == pytest.approx(together.loc[(2, 1, 5), "expected"])


def test_without_a_reply_what_there_is_counts() -> None:
    assert Statistics(traces.conversation(traces.ADDITION[:2])).counted == "the content tokens"
    bare = traces.routed(["a", "b"], [lab.harmony.Span(0, "user", None, None, "header")] * 2, 2, 2, 4, 2)
    assert (Statistics(bare).counted, Statistics(bare).n_tokens) == ("the tokens", 2)
    assert experts(bare).expert[0] in (0, 1)


def test_it_opens_at_the_busiest_expert(trace: Trace) -> None:
    weight, _ = Statistics(trace).sums
    assert weight[experts(trace).expert] == weight.max()


def test_the_chart_draws_the_analyses(trace: Trace) -> None:
    statistics = Statistics(trace)
    view = experts(trace)
    view.expert = (2, 5)
    load, together = view.chart.figure.data
    np.testing.assert_allclose(load.y, statistics.shares[2], atol=1e-5)
    assert [number for number, colour in enumerate(load.marker.color) if colour == "#c77400"] == [5]
    table = routing.coactivation(trace)
    of_layer = table[table["layer"] == 2]
    for row in of_layer[of_layer["other"] == 5].itertuples():
        expected = None if np.isnan(row.lift) else pytest.approx(row.lift, abs=1e-4)
        assert together.y[row.expert] == expected
        assert together.customdata[row.expert] == f"{row.tokens} tokens, {row.expected:.1f} by chance"
    assert together.y[5] is None
    assert view.chart.figure.layout.shapes[0].y0 == pytest.approx(2 / 8)
    exported = view.chart.exported(2)
    assert exported["changes"]["2,5"][0]["y"] == list(load.y)
    assert len(exported["changes"]) == trace.n_layers * trace.n_experts


def test_a_large_models_page_holds_the_chart_of_one_layer() -> None:
    statistics = Statistics(traces.long(200, n_layers=4, n_experts=128))
    assert {key.split(",")[0] for key in ExpertChart(statistics).exported(3)["changes"]} == {"3"}


@pytest.mark.parametrize(("n_layers", "n_experts"), [(24, 32), (36, 128)])
def test_four_thousand_tokens_take_less_than_five_megabytes(n_layers: int, n_experts: int) -> None:
    trace = traces.long(4000, n_layers, n_experts)
    assert size(experts_data(trace, Statistics(trace))) <= 5_000_000


def test_promoted_tokens_are_the_analyses(planted: Model, planted_trace: Trace) -> None:
    layer, expert = experts(planted_trace).expert
    weights, encoding = planted.transformer.weights, planted.tokenizer
    view = experts(planted_trace, weights, encoding)
    table = contributions.promoted_by_expert(planted_trace, weights, layer, expert, 8, encoding=encoding)
    shown = view.map.promoted
    assert shown["expert"] == [layer, expert]
    assert shown["tokens"] == table["tokens"].iloc[0]
    assert [score for _, score in shown["raised"]] == pytest.approx(table["score"][: len(shown["raised"])], abs=1e-3)
    lowest = table["score"].min()
    assert shown["lowered"][0][1] == pytest.approx(lowest, abs=1e-3)
    idle = int(np.argmin(routing.expert_sums(planted_trace, np.ones(20, dtype=bool))[1][layer]))
    view.expert = (layer, idle)
    assert view.map.promoted["expert"] == [layer, idle]


def test_promotions_need_the_experts_outputs(planted: Model, planted_trace: Trace) -> None:
    weights = planted.transformer.weights
    with pytest.raises(ValueError, match='record=\\("routing", "experts"\\)'):
        experts(traces.conversation(), weights)
    some = planted.trace(list(range(20)), record=lab.Record(experts=[0]))
    assert Promotions(some, weights, None).of(1, 0)["missing"] == "this layer's experts were not recorded"
    found = Promotions(planted_trace, weights, planted.tokenizer).for_page(1)
    assert len(found) == planted_trace.n_layers * planted_trace.n_experts


def test_view_and_parts_follow_one_another(trace: Trace) -> None:
    view = experts(trace)
    view.map.expert, view.map.pinned = (1, 3), 12
    assert (view.expert, view.pinned) == ((1, 3), 12)
    view.order_buttons.value = "position"
    assert (view.order, view.map.order) == ("position", "position")
    with pytest.raises(traitlets.TraitError, match="the layer below 4, the expert below 8"):
        view.expert = (4, 0)
    with pytest.raises(traitlets.TraitError, match="pinned=1000: this trace has tokens 0 to"):
        view.pinned = 1000
    assert (view.expert, view.pinned) == ((1, 3), 12)


def test_an_exported_page_holds_hostile_text_as_data_alone(tmp_path: Path) -> None:
    page = experts(hostile()).to_html(tmp_path / "view.html").read_text(encoding="utf-8")
    assert SCRIPT not in page
    assert ROLE not in page
    assert len(re.findall(r"<script[^>]*>", page)) == 3
    state: Any = json.loads(re.search(r'id="state">(.*?)</script>', page, re.DOTALL).group(1))  # type: ignore[union-attr]
    assert state["data"]["shown"][6] == "a⟨U+202E⟩b"
    assert state["promotions"] == []


def test_modules_are_joined_into_one() -> None:
    live, page = front_end.module("experts_map.js"), front_end.module("experts_page.js")
    assert re.findall(r"^export .*", live, re.MULTILINE) == ["export default { render };"]
    names = re.findall(r"^(?:async )?(?:function|const|let|class) (\w+)", page, re.MULTILINE)
    assert len(names) == len(set(names)), "top-level names must differ"
