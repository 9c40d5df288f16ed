"""Expert load as a bar chart: what plotly draws, and what changes with the layer and the measure."""

import html
from typing import Any

import plotly.graph_objects as go

from gptoss_lab.analyses import routing
from gptoss_lab.trace import Trace
from gptoss_lab.views.plain_text import quoted

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


class LoadFigure:
    """How much of each channel's content, in the reply, every expert served.

    A layer is a number, or "all" for the mean over layers; a measure is "share" or "weight_share", columns of
    `analyses.routing.expert_load`.
    """

    def __init__(self, trace: Trace) -> None:
        self._load = routing.expert_load(trace, by="channel")
        self._n_experts = trace.n_experts
        self._k = trace.expert_indices.shape[2]
        self.layers: list[tuple[str, int | str]] = [("all layers", ALL_LAYERS)]
        self.layers += [(f"layer {layer}", layer) for layer in range(trace.n_layers)]

    def bars(self) -> list[go.Bar]:
        """One set of bars a channel, without heights yet."""
        return [self._channel_bars(str(channel), rows) for channel, rows in self._load.groupby("channel", sort=False)]

    def heights(self, layer: int | str, measure: str) -> list[list[float]]:
        """[channel][expert], channels in the order of their bars."""
        rows = self._load if layer == ALL_LAYERS else self._load[self._load["layer"] == layer]
        channels = [channel for _, channel in rows.groupby("channel", sort=False)]
        return [channel.groupby("expert")[measure].mean().round(5).tolist() for channel in channels]

    def changes(self, layer: int | str, measure: str) -> dict[str, Any]:
        """The layout's changes, in plotly's flat names."""
        even = self._even(measure)
        return {
            "yaxis.title.text": _AXIS_TITLES[measure],
            "xaxis.dtick": 1 if self._n_experts <= 32 else 8,
            "shapes[0].y0": even,
            "shapes[0].y1": even,
        }

    def aid(self, layer: int | str, measure: str) -> str:
        """The line that says how to read the chart."""
        where = "the mean over all layers" if layer == ALL_LAYERS else f"layer {layer}"
        return f"{_READING[measure]}, {where}. Dashed: {self._even(measure):.1%}, if all experts did the same."

    def _even(self, measure: str) -> float:
        return (self._k if measure == "share" else 1) / self._n_experts

    def _channel_bars(self, channel: str, rows: Any) -> go.Bar:
        # plotly reads tags and entities in names, and % in templates, so a channel's name is escaped here.
        name = html.escape(quoted(channel))
        n_tokens = round(rows.loc[rows["layer"] == 0, "weight"].sum())
        return go.Bar(
            name=f"{name} ({n_tokens:,} token{'' if n_tokens == 1 else 's'})",
            x=list(range(self._n_experts)),
            marker={
                "color": _COLOURS.get(channel, _OTHER_COLOUR),
                "pattern": {"shape": "" if channel in ("analysis", "final") else "/"},
            },
            hovertemplate=f"expert %{{x}}: %{{y:.1%}} of {name.replace('%', '&#37;')}<extra></extra>",
        )


LAYOUT: dict[str, Any] = {
    "template": "none",
    "font": {"family": "system-ui, sans-serif", "size": 12},
    "autosize": True,
    "height": 290,
    "margin": {"l": 60, "r": 8, "t": 34, "b": 40},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "barmode": "group",
    "bargap": 0.25,
    "showlegend": True,
    "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.01, "yanchor": "bottom", "itemsizing": "constant"},
    "xaxis": {"title": {"text": "expert", "font": {"size": 12}}, "showgrid": False, "zeroline": False},
    "yaxis": {"title": {"font": {"size": 12}}, "tickformat": ".0%", "rangemode": "tozero", "zeroline": False},
    "shapes": [
        {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 0, "y1": 0, "line": {"dash": "dash", "width": 1.5}}
    ],
}
