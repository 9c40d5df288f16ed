"""The experts view's charts as widgets."""

import json
from typing import Any

import ipywidgets

from gptoss_lab.views.experts_data import Statistics
from gptoss_lab.views.experts_figures import ExpertBars, LoadBars, TogetherBars
from gptoss_lab.views.figure import Figure, Fit
from gptoss_lab.views.heading import heading_html

SMALL_PAGE = 40_000
"""So many bars a page may hold for every expert; beyond that it holds those of one layer."""


class ExpertCharts(ipywidgets.VBox):
    """Load, and co-activation, of one expert: `draw(layer, expert)`."""

    def __init__(self, statistics: Statistics) -> None:
        self._of: list[ExpertBars] = [LoadBars(statistics), TogetherBars(statistics)]
        self._shape = statistics.shares.shape
        self.figures = [Figure(data=each.figure().data, layout=each.figure().layout) for each in self._of]
        charts = [
            ipywidgets.VBox(
                [ipywidgets.HTML(heading_html(each.TITLE, each.aid, "h4")), figure],
                layout={"flex": "1 1 420px", "min_width": "0"},
            )
            for each, figure in zip(self._of, self.figures, strict=True)
        ]
        super().__init__([ipywidgets.Box(charts, layout={"flex_flow": "row wrap", "grid_gap": "8px 24px"}), Fit()])
        self.add_class("gptoss")
        self.add_class("gl-load")

    def draw(self, layer: int, expert: int) -> None:
        """Shows another expert."""
        for each, figure in zip(self._of, self.figures, strict=True):
            with figure.batch_update():
                figure.data[0].update(each.changes(layer, expert))

    def exported(self, layer: int) -> dict[str, Any]:
        """All that the same charts need on a page (see experts_charts.js)."""
        n_layers, n_experts = self._shape
        layers = range(n_layers) if n_layers * n_experts**2 <= SMALL_PAGE else [layer]
        return {
            "charts": [
                {"title": each.TITLE, "aid": each.aid, "figure": json.loads(each.figure().to_json(engine="json"))}
                for each in self._of
            ],
            "changes": {
                f"{each},{expert}": [chart.changes(each, expert) for chart in self._of]
                for each in layers
                for expert in range(n_experts)
            },
        }
