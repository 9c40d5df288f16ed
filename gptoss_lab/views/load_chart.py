"""The load chart with its controls: layer and measure."""

import json
from typing import Any

import ipywidgets
import plotly.graph_objects as go

from gptoss_lab.trace import Trace
from gptoss_lab.views.controls import controls_row, toggle_buttons
from gptoss_lab.views.figure import Figure, Fit
from gptoss_lab.views.heading import heading_html
from gptoss_lab.views.load_figure import ALL_LAYERS, LAYOUT, MEASURES, LoadFigure

TITLE = "How was the work shared between experts?"


class LoadChart(ipywidgets.VBox):
    """How much of each channel's content, in the reply, every expert served; `layer` and `measure` are the controls.

    Their values are those of `LoadFigure`.
    """

    def __init__(self, trace: Trace) -> None:
        self.layer = ipywidgets.Dropdown(description="Layer", style={"description_width": "initial"})
        self.measure = toggle_buttons("Measure", MEASURES)
        self.heading = ipywidgets.HTML()
        self.figure = Figure(layout=LAYOUT)
        super().__init__([self.heading, controls_row(self.layer, self.measure), self.figure, Fit()])
        self.add_class("gptoss")
        self.add_class("gl-load")
        self.show(trace)
        self.layer.observe(self._redraw, "value")
        self.measure.observe(self._redraw, "value")

    def show(self, trace: Trace) -> None:
        """Shows another trace's reply in place."""
        self._drawn = LoadFigure(trace)
        with self.figure.batch_update():
            self.figure.data = []
            self.figure.add_traces(self._drawn.bars())
        self.layer.options = self._drawn.layers
        self.layer.value = ALL_LAYERS
        self._redraw()

    def exported(self) -> dict[str, Any]:
        """All that the same chart needs on a page (see load_chart.js)."""
        choices = {f"{layer}|{measure}": (layer, measure) for _, layer in self._drawn.layers for _, measure in MEASURES}
        return {
            "title": TITLE,
            "figure": json.loads(go.Figure(self.figure).to_json(engine="json")),
            "layers": [[title, str(layer)] for title, layer in self._drawn.layers],
            "measures": [list(each) for each in MEASURES],
            "heights": {key: self._drawn.heights(*choice) for key, choice in choices.items()},
            "changes": {key: self._drawn.changes(*choice) for key, choice in choices.items()},
            "aids": {key: self._drawn.aid(*choice) for key, choice in choices.items()},
        }

    def _redraw(self, _: object = None) -> None:
        choice = self.layer.value, self.measure.value
        with self.figure.batch_update():
            for bars, heights in zip(self.figure.data, self._drawn.heights(*choice), strict=True):
                bars.y = heights
            self.figure.update_layout(self._drawn.changes(*choice))
        self.heading.value = heading_html(TITLE, self._drawn.aid(*choice), "h4")
