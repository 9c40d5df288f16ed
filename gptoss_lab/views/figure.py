"""Charts in a notebook: plotly's figures as widgets that follow the theme and the width of their place."""

from typing import Any

import anywidget
import plotly.graph_objects as go

from gptoss_lab.views import front_end


class Figure(go.FigureWidget):
    """Brings its style sheet along."""

    _css = front_end.style("theme.css", "load_chart.css")

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self._config = {"responsive": True, "displayModeBar": False}  # plotly has no public way to set it


class Fit(anywidget.AnyWidget):
    """Draws nothing, and keeps the figures as wide as their places."""

    _esm = front_end.module("fit.js")
