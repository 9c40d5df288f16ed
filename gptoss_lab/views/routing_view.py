"""The routing view: which experts each token went to, and how the work was shared between them."""

from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any

import ipywidgets
import traitlets

from gptoss_lab.trace import Trace
from gptoss_lab.views import front_end
from gptoss_lab.views.controls import toggle_buttons
from gptoss_lab.views.heading import heading_html
from gptoss_lab.views.load_chart import LoadChart
from gptoss_lab.views.plain_text import visible
from gptoss_lab.views.routing_map import STYLE, RoutingMap

TITLE = "Which experts did each token go to?"


def routing(trace: Trace) -> "RoutingView":
    """The routing of every token, to look at and click through; `.to_html(path)` makes it one offline file."""
    return RoutingView(trace)


class RoutingView(ipywidgets.VBox):
    """Token strip, layer by expert map and load chart, with their controls.

    `pinned` (a position or None), `cell` ((layer, expert) or None) and `shown` (the name of a group of tokens) follow
    what is clicked, and may be set; see `RoutingMap`. `map` and `chart` are the parts.
    """

    pinned = traitlets.Int(None, allow_none=True)
    cell: Any = traitlets.Tuple(default_value=None, allow_none=True)
    shown = traitlets.Unicode("all")

    def __init__(self, trace: Trace) -> None:
        self._aid = _aid(trace)
        self.heading = ipywidgets.HTML(heading_html(TITLE, self._aid))
        self.map = RoutingMap(trace)
        self.chart = LoadChart(trace)
        self.show_buttons = toggle_buttons("Show", _options(self.map))
        super().__init__([self.heading, self.show_buttons, self.map, self.chart])
        traitlets.link((self.map, "pinned"), (self, "pinned"))
        traitlets.link((self.map, "cell"), (self, "cell"))
        traitlets.link((self.map, "shown"), (self, "shown"))
        traitlets.link((self.map, "shown"), (self.show_buttons, "value"))

    def show(self, trace: Trace) -> None:
        """Shows another trace in place."""
        self._aid = _aid(trace)
        self.heading.value = heading_html(TITLE, self._aid)
        self.map.show(trace)
        self.show_buttons.options = _options(self.map)
        self.chart.show(trace)

    @traitlets.validate("pinned", "cell", "shown")
    def _check(self, proposal: dict[str, Any]) -> Any:
        """The map knows what can be selected."""
        setattr(self.map, proposal["trait"].name, proposal["value"])
        return proposal["value"]

    def to_html(self, path: str | PathLike[str]) -> Path:
        """Writes the view, as it stands, to one HTML file that opens offline and stays interactive; returns `path`."""
        path = Path(path)
        state: dict[str, Any] = {name: getattr(self.map, name) for name in ("data", "pinned", "cell", "shown")}
        plotly = resources.files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")
        page = front_end.page(
            title=TITLE,
            script=front_end.module("routing_page.js"),
            css=front_end.style(*STYLE, "load_chart.css"),
            state=state | {"heading": [TITLE, self._aid], "load": self.chart.exported()},
            library=plotly,
        )
        path.write_text(page, encoding="utf-8")
        return path


def _options(routing_map: RoutingMap) -> list[tuple[str, str]]:
    return [(title, name) for name, title in routing_map.groups]


def _aid(trace: Trace) -> str:
    name = f"{visible(trace.model_name)}: " if trace.model_name else ""
    k = trace.expert_indices.shape[2]
    return (
        f"{name}{trace.n_layers} layers of {trace.n_experts} experts. In every layer a router sends each token to "
        f"{k} of the {trace.n_experts}, and says how much weight each of them gets."
    )
