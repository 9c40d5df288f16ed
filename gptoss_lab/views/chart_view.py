"""One chart with its title and reading aid: in a notebook, and as one file."""

import html
import json
from os import PathLike
from pathlib import Path
from typing import Any

import ipywidgets
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from gptoss_lab.views import front_end
from gptoss_lab.views.figure import Figure, Fit
from gptoss_lab.views.heading import heading_html
from gptoss_lab.views.plain_text import quoted, visible

# Middle tones: at least 3 to 1 against both a white and a near-black page. load_chart.css sees to text and lines.
BLUE, ORANGE, PINK, GREY = "#2f7fc2", "#c77400", "#b9548f", "#7c828a"

LONGEST = 90


class ChartView(ipywidgets.VBox):
    """A plotly figure, `figure`, with what it shows and how to read it; `.to_html(path)` makes it one offline file."""

    def __init__(self, title: str, aid: str, figure: go.Figure) -> None:
        figure.update_layout(LAYOUT | {"margin": LAYOUT["margin"] | figure.layout.margin.to_plotly_json()})
        self.title, self.aid = title, aid
        self.figure = Figure(data=figure.data, layout=figure.layout)
        super().__init__([ipywidgets.HTML(heading_html(title, aid)), self.figure, Fit()])
        self.add_class("gptoss")
        self.add_class("gl-load")

    def to_html(self, path: str | PathLike[str]) -> Path:
        """Writes the chart to one HTML file that opens offline, with plotly inside (4.5 MB); returns `path`."""
        path = Path(path)
        page = front_end.page(
            title=self.title,
            script=front_end.module("chart_page.js"),
            css=front_end.style("theme.css", "load_chart.css"),
            state={
                "heading": [self.title, self.aid],
                "figure": json.loads(go.Figure(self.figure).to_json(engine="json")),
            },
            library=get_plotlyjs(),
        )
        path.write_text(page, encoding="utf-8")
        return path


def plotted(text: str) -> str:
    """Model text in a chart: plotly reads tags and entities in it, and % in templates."""
    text = visible(text.strip()).replace("\n", " ↵ ")
    return html.escape(text if len(text) <= LONGEST else text[: LONGEST - 1] + "…").replace("%", "&#37;")


def named(text: str) -> str:
    """An answer in a legend."""
    return html.escape(quoted(text)).replace("%", "&#37;")


def axis(title: str, **more: Any) -> dict[str, Any]:
    """An axis with its title and unit."""
    return {"title": {"text": title, "font": {"size": 12}}, "zeroline": False, **more}


LAYOUT: dict[str, Any] = {
    "template": "none",
    "font": {"family": "system-ui, sans-serif", "size": 12},
    "autosize": True,
    "margin": {"l": 70, "r": 12, "t": 40, "b": 50},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "hoverlabel": {"align": "left"},
    "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.01, "yanchor": "bottom", "itemsizing": "constant"},
}
