"""Two charts of one expert as plotly draws them: its load beside the others', and who serves together with it."""

from typing import Any, ClassVar, Protocol

import numpy as np
import plotly.graph_objects as go

from gptoss_lab.views.experts_data import Statistics
from gptoss_lab.views.load_figure import LAYOUT

# Middle tones: at least 3 to 1 against both a white and a near-black page.
CHOSEN, OTHER = "#c77400", "#7c828a"


class ExpertBars(Protocol):
    """A bar chart of one expert, a bar for each expert of its layer."""

    TITLE: ClassVar[str]

    @property
    def aid(self) -> str:
        """The line that says how to read it."""

    def figure(self) -> go.Figure:
        """The chart, its bars still without heights."""

    def changes(self, layer: int, expert: int) -> dict[str, Any]:
        """What the bars become for an expert, in plotly's nested names."""


class LoadBars:
    """Of the tokens that count, the share that each expert of a layer served; the chosen expert stands out."""

    TITLE: ClassVar[str] = "Its load, beside the layer's other experts"

    def __init__(self, statistics: Statistics) -> None:
        self._shares = statistics.shares
        self._counted = statistics.counted
        self.even = float(statistics.shares.sum(axis=1).mean() / statistics.shares.shape[1])

    @property
    def aid(self) -> str:
        even = f"Dashed: {self.even:.1%}, if all did the same."
        return f"Of {self._counted}, the share that each served. {even} Orange: this one."

    def figure(self) -> go.Figure:
        bars = go.Bar(hovertemplate="expert %{x}: %{y:.1%} of the tokens<extra></extra>")
        return go.Figure(bars, _layout(self._shares.shape[1], "share of the tokens", ".0%", self.even))

    def changes(self, layer: int, expert: int) -> dict[str, Any]:
        shares = self._shares[layer]
        colours = [CHOSEN if number == expert else OTHER for number in range(len(shares))]
        return {"x": list(range(len(shares))), "y": shares.round(5).tolist(), "marker": {"color": colours}}


class TogetherBars:
    """How often each other expert serves the same token as the chosen one, as a multiple of what chance gives."""

    TITLE: ClassVar[str] = "Who serves together with it"

    def __init__(self, statistics: Statistics) -> None:
        self._together, self._by_chance = statistics.together, statistics.by_chance

    @property
    def aid(self) -> str:
        return (
            "How often each of the others serves the same tokens, as a multiple of what chance would give. Dashed: "
            "chance. Orange: more often."
        )

    def figure(self) -> go.Figure:
        bars = go.Bar(
            hovertemplate="with expert %{x}: %{y:.2f} times chance<br>%{customdata}<extra></extra>",
        )
        return go.Figure(bars, _layout(self._together.shape[1], "times chance", ".1f", 1.0))

    def changes(self, layer: int, expert: int) -> dict[str, Any]:
        tokens, by_chance = self._together[layer, expert], self._by_chance[layer, expert]
        lift = np.divide(tokens, by_chance, out=np.full(len(tokens), np.nan), where=by_chance > 1e-9)
        lift[expert] = np.nan
        return {
            "x": list(range(len(tokens))),
            "y": [None if np.isnan(value) else round(float(value), 4) for value in lift],
            "customdata": [
                f"{n} tokens, {expected:.1f} by chance" for n, expected in zip(tokens, by_chance, strict=True)
            ],
            "marker": {"color": [CHOSEN if value > 1 else OTHER for value in lift]},
        }


def _layout(n_experts: int, axis_title: str, tick_format: str, dashed: float) -> dict[str, Any]:
    return LAYOUT | {
        "height": 240,
        "showlegend": False,
        "margin": {"l": 60, "r": 8, "t": 8, "b": 40},
        "xaxis": LAYOUT["xaxis"] | {"dtick": 1 if n_experts <= 32 else 8, "range": [-0.6, n_experts - 0.4]},
        "yaxis": LAYOUT["yaxis"] | {"title": {"text": axis_title, "font": {"size": 12}}, "tickformat": tick_format},
        "shapes": [LAYOUT["shapes"][0] | {"y0": dashed, "y1": dashed}],
    }
