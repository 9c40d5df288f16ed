"""The chart of one expert as plotly draws it: its load beside the others', and below it who serves the same tokens."""

from typing import Any

import numpy as np
import plotly.graph_objects as go

from gptoss_lab.views.experts_data import Statistics
from gptoss_lab.views.load_figure import LAYOUT

TITLE = "Its load, and who serves together with it"

# Middle tones: at least 3 to 1 against both a white and a near-black page.
CHOSEN, OTHER = "#c77400", "#7c828a"


class ExpertFigure:
    """Two rows of bars, a bar for each expert of the chosen one's layer.

    Above, of the tokens that count, the share that each served. Below, how often each serves the same token as the
    chosen one, as a multiple of what chance would give.
    """

    def __init__(self, statistics: Statistics) -> None:
        self._of = statistics
        self._shares = statistics.shares
        self._even = float(self._shares.sum(axis=1).mean() / self._shares.shape[1])

    @property
    def aid(self) -> str:
        """The line that says how to read it."""
        return (
            f"Above: of {self._of.counted}, the share that each expert of the layer served; dashed, {self._even:.1%}, "
            "if all did the same. Below: how often the others serve the same tokens as this one, as a multiple of what "
            "chance would give; dashed: chance. Orange: this expert, and those that it meets more often than by chance."
        )

    def figure(self) -> go.Figure:
        """The chart, its bars still without heights."""
        n_experts = self._shares.shape[1]
        bars = [
            go.Bar(hovertemplate="expert %{x}: %{y:.1%} of the tokens<br>%{customdata}<extra></extra>"),
            go.Bar(yaxis="y2", hovertemplate="with expert %{x}: %{y:.2f} times chance<br>%{customdata}<extra></extra>"),
        ]
        dashed = LAYOUT["shapes"][0]
        layout = LAYOUT | {
            "height": 400,
            "showlegend": False,
            "margin": {"l": 60, "r": 8, "t": 8, "b": 40},
            "xaxis": LAYOUT["xaxis"]
            | {"dtick": 1 if n_experts <= 32 else 8, "range": [-0.6, n_experts - 0.4], "anchor": "y2"},
            "yaxis": LAYOUT["yaxis"]
            | {"domain": [0.55, 1], "title": {"text": "share of tokens", "font": {"size": 12}}},
            "yaxis2": LAYOUT["yaxis"]
            | {"domain": [0, 0.45], "title": {"text": "times chance", "font": {"size": 12}}, "tickformat": ".1f"},
            "shapes": [
                dashed | {"y0": self._even, "y1": self._even},
                dashed | {"y0": 1, "y1": 1, "yref": "y2"},
            ],
        }
        return go.Figure(bars, layout)

    def changes(self, layer: int, expert: int) -> list[dict[str, Any]]:
        """What the two rows of bars become for an expert, in plotly's nested names."""
        numbers = list(range(self._shares.shape[1]))
        served = self._of.sums[1][layer]
        together, by_chance = self._of.together[layer, expert], self._of.by_chance[layer, expert]
        lift = np.divide(together, by_chance, out=np.full(len(numbers), np.nan), where=by_chance > 1e-9)
        lift[expert] = np.nan
        return [
            {
                "x": numbers,
                "y": self._shares[layer].round(5).tolist(),
                "customdata": [f"{n:,} of {self._of.n_tokens:,}" for n in served],
                "marker": {"color": [CHOSEN if number == expert else OTHER for number in numbers]},
            },
            {
                "x": numbers,
                "y": [None if np.isnan(value) else round(float(value), 4) for value in lift],
                "customdata": [f"{n:,} tokens, {by:.1f} by chance" for n, by in zip(together, by_chance, strict=True)],
                "marker": {"color": [CHOSEN if value > 1 else OTHER for value in lift]},
            },
        ]
