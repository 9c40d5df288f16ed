"""Expert load, split by channel: a bar chart, with the layer and the measure to choose."""

import html
import json
from typing import TYPE_CHECKING, Any

import anywidget
import ipywidgets
import plotly.graph_objects as go

from gptoss_lab.analyses import routing
from gptoss_lab.trace import Trace
from gptoss_lab.views import front_end
from gptoss_lab.views.controls import controls_row, toggle_buttons
from gptoss_lab.views.heading import heading_html
from gptoss_lab.views.plain_text import quoted

if TYPE_CHECKING:
    import pandas as pd

TITLE = "How was the work shared between experts?"
ALL_LAYERS = "all"
MEASURES = [("tokens served", "share"), ("router weight", "weight_share")]

# Middle tones: at least 3 to 1 against both a white and a near-black page. load_chart.css sees to text and lines.
_COLOURS = {"analysis": "#c77400", "final": "#2f7fc2", "commentary": "#b9548f"}
_OTHER_COLOUR = "#7c828a"
_READING = {
    "share": "Of a channel's content tokens in the reply, the share that each expert served",
    "weight_share": "Of a channel's router weight in the reply's content, the share that each expert had",
}
_AXIS_TITLES = {"share": "share of the tokens", "weight_share": "share of the router weight"}


class LoadChart(ipywidgets.VBox):
    """How much of each channel's content, in the reply, every expert served.

    `layer` (a number, or "all" for the mean over layers) and `measure` ("share" or "weight_share", the columns of
    `analyses.routing.expert_load`) are the two menus.
    """

    def __init__(self, trace: Trace) -> None:
        self.layer = ipywidgets.Dropdown(
            description="Layer", options=[("all layers", ALL_LAYERS)], style={"description_width": "initial"}
        )
        self.measure = toggle_buttons("Measure", MEASURES)
        self.figure = _Figure(layout=_layout(trace.n_experts))
        self.heading = ipywidgets.HTML()
        self.figure._config = {"responsive": True, "displaylogo": False}  # plotly has no public way to set it
        super().__init__([self.heading, controls_row(self.layer, self.measure), self.figure, _Fit()])
        self.add_class("gptoss")
        self.add_class("gl-load")
        self.show(trace)
        self.layer.observe(self._redraw, "value")
        self.measure.observe(self._redraw, "value")

    def show(self, trace: Trace) -> None:
        """Shows another trace's reply in place."""
        self._load = routing.expert_load(trace, by="channel")
        self._k = trace.expert_indices.shape[2]
        self._n_experts = trace.n_experts
        with self.figure.batch_update():
            self.figure.data = []
            self.figure.add_traces(_bars(self._load))
        self.layer.options = _layers(trace.n_layers)
        self._redraw()

    def exported(self) -> dict[str, Any]:
        """All that the same chart needs on a page (see load_chart.js)."""
        layers = [value for _, value in self.layer.options]
        keys = {f"{layer}|{measure}": (layer, measure) for layer in layers for _, measure in MEASURES}
        return {
            "figure": json.loads(go.Figure(self.figure).to_json(engine="json")),
            "layers": [[title, str(value)] for title, value in self.layer.options],
            "measures": [list(each) for each in MEASURES],
            "heights": {key: _heights(self._load, *chosen) for key, chosen in keys.items()},
            "changes": {key: self._changes(*chosen) for key, chosen in keys.items()},
            "title": TITLE,
            "aids": {key: self._aid(*chosen) for key, chosen in keys.items()},
        }

    def _redraw(self, _: object = None) -> None:
        layer, measure = self.layer.value, self.measure.value
        with self.figure.batch_update():
            for bars, heights in zip(self.figure.data, _heights(self._load, layer, measure), strict=True):
                bars.y = heights
            self.figure.update_layout(self._changes(layer, measure))
        self.heading.value = heading_html(TITLE, self._aid(layer, measure), "h4")

    def _even(self, measure: str) -> float:
        return (self._k if measure == "share" else 1) / self._n_experts

    def _aid(self, layer: int | str, measure: str) -> str:
        where = "the mean over all layers" if layer == ALL_LAYERS else f"layer {layer}"
        return f"{_READING[measure]}, {where}. Dashed: {self._even(measure):.1%}, if all experts did the same."

    def _changes(self, layer: int | str, measure: str) -> dict[str, Any]:
        even = self._even(measure)
        return {
            "yaxis.title.text": _AXIS_TITLES[measure],
            "shapes[0].y0": even,
            "shapes[0].y1": even,
        }


class _Fit(anywidget.AnyWidget):
    _esm = front_end.module("fit.js")


class _Figure(go.FigureWidget):
    """Brings its style sheet along."""

    _css = front_end.style("theme.css", "load_chart.css")


def _bars(load: "pd.DataFrame") -> list[go.Bar]:
    bars = []
    for channel, rows in load.groupby("channel", sort=False):
        # plotly reads tags and entities in names, so a channel's name is escaped here.
        name = html.escape(quoted(str(channel)))
        tokens = round(rows.loc[rows["layer"] == 0, "weight"].sum())
        bars.append(
            go.Bar(
                name=f"{name} ({tokens:,} tokens)",
                x=sorted(rows["expert"].unique().tolist()),
                marker={
                    "color": _COLOURS.get(str(channel), _OTHER_COLOUR),
                    "pattern": {"shape": "" if channel in ("analysis", "final") else "/"},
                },
                hovertemplate=f"expert %{{x}}: %{{y:.1%}} of {name.replace('%', '&#37;')}<extra></extra>",
            )
        )
    return bars


def _heights(load: "pd.DataFrame", layer: int | str, measure: str) -> list[list[float]]:
    """[channel][expert], channels in the order of their bars."""
    rows = load if layer == ALL_LAYERS else load[load["layer"] == layer]
    return [
        shares.groupby("expert")[measure].mean().round(5).tolist() for _, shares in rows.groupby("channel", sort=False)
    ]


def _layers(n_layers: int) -> list[tuple[str, int | str]]:
    return [("all layers", ALL_LAYERS), *((f"layer {layer}", layer) for layer in range(n_layers))]


def _layout(n_experts: int) -> dict[str, Any]:
    return {
        "template": "none",
        "font": {"family": "system-ui, sans-serif", "size": 12},
        "autosize": True,
        "barmode": "group",
        "bargap": 0.25,
        "height": 290,
        "margin": {"l": 60, "r": 8, "t": 34, "b": 40},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "showlegend": True,
        "legend": {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 1.01,
            "yanchor": "bottom",
            "itemsizing": "constant",
        },
        "xaxis": {
            "title": {"text": "expert", "font": {"size": 12}},
            "dtick": 1 if n_experts <= 32 else 8,
            "showgrid": False,
            "zeroline": False,
        },
        "yaxis": {
            "title": {"text": " ", "font": {"size": 12}},
            "tickformat": ".0%",
            "rangemode": "tozero",
            "zeroline": False,
        },
        "shapes": [
            {
                "type": "line",
                "xref": "paper",
                "x0": 0,
                "x1": 1,
                "y0": 0,
                "y1": 0,
                "line": {"dash": "dash", "width": 1.5},
            }
        ],
        "hoverlabel": {"font": {"size": 12}},
    }
