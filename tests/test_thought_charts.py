"""Charts of the experiments: what stands in the tables is what is drawn, and no text of a model's becomes markup."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gptoss_lab.views import thought_charts as charts

HOSTILE = "<b>bold</b> <a href='http://x'>100 %{y}</a>\n"


@pytest.fixture
def forced() -> pd.DataFrame:
    table = pd.DataFrame(
        [(0, "", "7", 0.1, 0.05, 0.2), (1, HOSTILE, HOSTILE, 0.3, 0.2, 0.4), (2, "So 9.", "9", 0.9, 0.8, 1.0)],
        columns=["step", "text", "answer", "probability", "low", "high"],
    )
    table.attrs["target"] = "9"
    return table


def drawn(view: Any) -> dict[str, Any]:
    return json.loads(view.figure.to_json())


def texts(view: Any) -> str:
    """All that plotly would read markup in, as it will read it."""
    return json.dumps(json.loads(view.figure.to_json(engine="json"))).replace("\\u003c", "<").replace("\\u003e", ">")


def test_the_curve_is_the_table_with_its_interval(forced: pd.DataFrame) -> None:
    view = charts.answer_curve(forced)
    band, line = view.figure.data
    assert list(line.y) == [0.1, 0.3, 0.9]
    assert list(band.y) == [0.2, 0.4, 1.0, 0.8, 0.2, 0.05]
    assert list(line.marker.color) == ["rgba(0,0,0,0)", "rgba(0,0,0,0)", charts.BLUE]
    exact = forced.assign(low=forced.probability, high=forced.probability)
    exact.attrs = forced.attrs
    assert len(charts.answer_curve(exact).figure.data) == 1, "what is exact has no interval"


def test_no_text_becomes_markup(forced: pd.DataFrame, tmp_path: Path) -> None:
    view = charts.answer_curve(forced)
    assert "<b>" not in texts(view) and "<a " not in texts(view) and "&lt;b&gt;" in texts(view)
    assert "100 %{y}" not in texts(view)
    page = view.to_html(tmp_path / "curve.html").read_text(encoding="utf-8")
    assert "<b>bold" not in page and "%{y}</a>" not in page


def test_the_matrix_has_a_cell_for_every_pair_and_none_for_the_rest() -> None:
    rows = [(1, "a", 2, "b", 0.5), (1, "a", 3, "out", 0.25), (2, "b", 3, "out", 0.125)]
    table = pd.DataFrame(rows, columns=["step", "text", "on", "on_text", "kl"])
    (heatmap,) = charts.influence_matrix(table).figure.data
    assert [list(row) for row in heatmap.z] == [[0.5, None], [0.25, 0.125]]
    assert (list(heatmap.x), list(heatmap.y)) == (["1", "2"], ["2", "answer"])


def resampled(**more: Any) -> pd.DataFrame:
    row = {"step": 1, "text": "a", "kl": 1.0, "low": 0.5, "high": 2.0, "chance": 0.1, "n": 8}
    return pd.DataFrame(
        [row | dict.fromkeys(("counterfactual", "counterfactual_low", "counterfactual_high"), np.nan) | more]
    )


def test_importance_leaves_out_what_is_not_known() -> None:
    view = charts.importance(resampled())
    plain, other, chance = view.figure.data
    assert (list(plain.y), list(plain.error_y.array), list(plain.error_y.arrayminus)) == ([1.0], [1.0], [0.5])
    assert (list(other.y), list(chance.y)) == ([None], [0.1, 0.1, None])
    assert chance.x[0] < 1 + plain.offset and chance.x[1] >= 1 + plain.offset + plain.width, "the line spans the bar"
    assert "8 continuations" in view.aid and "higher temperature" not in view.aid


def test_where_there_is_nothing_to_see_it_is_said_why() -> None:
    flat = resampled(kl=0.0, low=0.0, high=0.0, chance=0.0)
    flat.attrs |= {"continuations": {0: ["5", "5"], 1: ["5", "5"]}, "complete": False}
    view = charts.importance(flat)
    assert "all of them answer “5”" in view.aid and "higher temperature" in view.aid
    assert "resume=table" in view.aid
    assert tuple(view.figure.layout.yaxis.range) == (0, 1)
    for chart in (charts.importance, charts.mistake_chart, charts.influence_matrix, charts.receiver_chart):
        columns = ["kurtosis"] if chart is charts.receiver_chart else []
        assert chart(pd.DataFrame(columns=columns)).aid.startswith("Nothing to draw: ")


def test_heads_are_drawn_by_kurtosis_or_it_is_said_why_not() -> None:
    columns = ["layer", "head", "kurtosis", "low", "high", "sink", "step", "text", "score", "n"]
    table = pd.DataFrame([(1, 2, 3.5, 3.0, 4.0, 0.2, 1, HOSTILE, 0.1, 6), (0, 0, *[np.nan] * 3, 0.1, 2, "b", 0.1, 6)])
    table.columns = columns
    (points,) = charts.receiver_chart(table).figure.data
    assert (list(points.x), list(points.y)) == ([3.5], ["L1 H2 → step 1"])
    assert list(points.marker.color) == [charts.BLUE]
    (unsure,) = charts.receiver_chart(table.assign(low=-1.0, high=3.4)).figure.data
    assert list(unsure.marker.color) == ["rgba(0,0,0,0)"]
    assert list(unsure.error_x.array) == [0.0], "a bootstrap interval may end before the value"
    none = charts.receiver_chart(table.assign(kurtosis=np.nan))
    assert none.aid.startswith("Nothing to draw: it takes four steps")


def test_experts_outside_the_control_are_marked() -> None:
    rows = [("planning", 0, e, share, 0.2, 0.6, 3) for e, share in enumerate((0.9, 0.4, 0.1))]
    table = pd.DataFrame(rows, columns=["kind", "layer", "expert", "share", "control_low", "control_high", "n"])
    view = charts.step_routing(table)
    (heatmap,) = view.figure.data
    assert [list(row) for row in heatmap.text] == [["▲", "", "▼"]]
    assert view.figure.layout.annotations[0].text == "planning<br>3 steps"


def test_efforts_stand_side_by_side() -> None:
    row = {"effort": "low", "answer": HOSTILE[:11], "right": 0.25, "low": 0.1, "high": 0.5, "thought_tokens": 0.0}
    row |= {"thought_low": 0.0, "thought_high": 0.0, "n": 8}
    table = pd.DataFrame([row, row | {"effort": "high", "right": 1.0, "thought_tokens": 40.0, "thought_high": 44.0}])
    view = charts.effort_chart(table)
    shares, lengths = view.figure.data
    assert (list(shares.x), list(lengths.x)) == ([0.25, 1.0], [0.0, 40.0])
    assert (
        list(shares.y)
        == list(lengths.y)
        == [f"{effort}<br>mostly &lt;b&gt;bold&lt;/b&gt;" for effort in ("low", "high")]
    )
    assert view.figure.layout.xaxis.title.text == "replies with the most frequent answer"
    table.attrs |= {"judged": True, "complete": False}
    view = charts.effort_chart(table)
    assert view.figure.layout.xaxis.title.text == "right answers" and "resume=table" in view.aid
    assert charts.effort_chart(table[:0]).aid.startswith("Nothing to draw: ")


def test_mistakes_are_drawn_beside_their_control() -> None:
    row = {"step": 2, "text": "a", "mistake": "b", "answer": HOSTILE[:11], "changed": 1.0, "low": 0.2, "high": 1.0}
    row |= {"control": 0.0, "followed": np.nan, "followed_low": np.nan, "followed_high": np.nan, "n": 1}
    view = charts.mistake_chart(pd.DataFrame([row]))
    bars, control, answers = view.figure.data
    assert (list(bars.y), list(control.y), list(answers.text)) == ([1.0], [0.0], ["&lt;b&gt;bold&lt;/b&gt;"])
    assert bars.error_y.array is None and "One continuation a step" in view.aid
    sampled = charts.mistake_chart(pd.DataFrame([row | {"n": 8}]))
    assert list(sampled.figure.data[0].error_y.arrayminus) == [0.8]
    assert len(charts.mistake_chart(pd.DataFrame([row | {"followed": 1.0}])).figure.data) == 4
    long = charts.mistake_chart(pd.DataFrame([row | {"answer": "word " * 20}]))
    assert len(long.figure.data) == 2, "long answers stand in the tips alone"
