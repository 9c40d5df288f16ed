"""The routing view: which experts each token went to, and how the work was shared between them."""

from importlib import resources
from typing import Any

import traitlets

from gptoss_lab.trace import Trace
from gptoss_lab.views.load_chart import LoadChart
from gptoss_lab.views.plain_text import visible
from gptoss_lab.views.routing_map import STYLE, RoutingMap
from gptoss_lab.views.strip_view import StripView


def routing(trace: Trace) -> "RoutingView":
    """The routing of every token, to look at and click through; `.to_html(path)` makes it one offline file."""
    return RoutingView(trace)


class RoutingView(StripView):
    """Token strip, layer by expert map and load chart, with their controls.

    `cell` ((layer, expert) or None) and all that StripView has follow what is clicked, and may be set; see
    `RoutingMap`. `map` and `chart` are the parts.
    """

    TITLE = "Which experts did each token go to?"
    FOLLOWED = (*StripView.FOLLOWED, "cell")
    SCRIPT = "routing_page.js"
    STYLE = (*STYLE, "load_chart.css")

    cell: Any = traitlets.Tuple(default_value=None, allow_none=True)

    map: RoutingMap

    def __init__(self, trace: Trace) -> None:
        self.chart = LoadChart(trace)
        super().__init__(_aid(trace), RoutingMap(trace), self.chart)

    def show(self, trace: Trace) -> None:
        """Shows another trace in place."""
        self._say(_aid(trace))
        self.map.show(trace)
        self.controls.refresh()
        self.chart.show(trace)

    def _page_state(self) -> dict[str, Any]:
        return super()._page_state() | {"load": self.chart.exported()}

    def _page_library(self) -> str:
        return resources.files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")

    @traitlets.validate("cell")
    def _check_cell(self, proposal: dict[str, Any]) -> Any:
        """The map knows what can be selected."""
        self.map.cell = proposal["value"]
        return proposal["value"]


def _aid(trace: Trace) -> str:
    name = f"{visible(trace.model_name)}: " if trace.model_name else ""
    k = trace.expert_indices.shape[2]
    return (
        f"{name}{trace.n_layers} layers of {trace.n_experts} experts. In every layer a router sends each token to "
        f"{k} of the {trace.n_experts}, and says how much weight each of them gets."
    )
