"""The experts view's chart as a widget."""

import json
from typing import Any

import ipywidgets

from gptoss_lab.views.experts_data import Statistics
from gptoss_lab.views.experts_figure import TITLE, ExpertFigure
from gptoss_lab.views.figure import Figure, Fit
from gptoss_lab.views.heading import heading_html

SMALL_PAGE = 40_000
"""So many bars a page may hold for every expert; beyond that it holds those of one layer."""


class ExpertChart(ipywidgets.VBox):
    """Load, and co-activation, of one expert: `draw(layer, expert)`."""

    def __init__(self, statistics: Statistics) -> None:
        self._shape = statistics.shares.shape
        self._of = ExpertFigure(statistics)
        empty = self._of.figure()
        self.figure = Figure(data=empty.data, layout=empty.layout)
        super().__init__([ipywidgets.HTML(heading_html(TITLE, self._of.aid, "h4")), self.figure, Fit()])
        self.add_class("gptoss")
        self.add_class("gl-load")

    def draw(self, layer: int, expert: int) -> None:
        """Shows another expert."""
        with self.figure.batch_update():
            for bars, changes in zip(self.figure.data, self._of.changes(layer, expert), strict=True):
                bars.update(changes)

    def exported(self, layer: int) -> dict[str, Any]:
        """All that the same chart needs on a page (see experts_chart.js)."""
        n_layers, n_experts = self._shape
        layers = range(n_layers) if n_layers * n_experts**2 <= SMALL_PAGE else [layer]
        return {
            "title": TITLE,
            "aid": self._of.aid,
            "figure": json.loads(self._of.figure().to_json(engine="json")),
            "changes": {
                f"{each},{expert}": self._of.changes(each, expert) for each in layers for expert in range(n_experts)
            },
        }
