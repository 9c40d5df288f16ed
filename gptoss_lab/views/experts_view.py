"""The experts view: one expert of one layer, its load, its company, its tokens, and what it promotes."""

from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any

import ipywidgets
import tiktoken
import traitlets

from gptoss_lab.trace import Trace
from gptoss_lab.views import front_end
from gptoss_lab.views.controls import toggle_buttons
from gptoss_lab.views.experts_chart import ExpertChart
from gptoss_lab.views.experts_data import Promotions, Statistics
from gptoss_lab.views.experts_map import ORDERS, STYLE, ExpertsMap
from gptoss_lab.views.heading import heading_html
from gptoss_lab.views.plain_text import visible
from gptoss_lab.weights import Weights

TITLE = "What does one expert do?"


def experts(trace: Trace, weights: Weights | None = None, encoding: tiktoken.Encoding | None = None) -> "ExpertsView":
    """Each expert's load, company and tokens, to look at and click through; `.to_html(path)` makes it one offline file.

    weights: of the model, `model.transformer.weights`, for what an expert promotes in the vocabulary; the trace must
        then hold the experts' outputs, `model.trace(reply, record=("routing", "experts"))`. encoding:
        `model.tokenizer`, for those tokens' texts.

    Raises ValueError where weights are given and the trace holds no experts' outputs.
    """
    return ExpertsView(trace, weights, encoding)


class ExpertsView(ipywidgets.VBox):
    """Layer by expert map, chart, and the tokens that the chosen expert served.

    `expert` ((layer, expert)), `pinned` (a position or None) and `order` ("weight" or "position") follow what is
    clicked, and may be set; see `ExpertsMap`. `map` and `chart` are the parts.
    """

    expert: Any = traitlets.Tuple()
    pinned = traitlets.Int(None, allow_none=True)
    order = traitlets.Unicode("weight")

    def __init__(self, trace: Trace, weights: Weights | None = None, encoding: tiktoken.Encoding | None = None) -> None:
        statistics = Statistics(trace)
        self._aid = _aid(trace)
        self._promotions = None if weights is None else Promotions(trace, weights, encoding)
        self.heading = ipywidgets.HTML(heading_html(TITLE, self._aid))
        self.map = ExpertsMap(trace, statistics, self._promotions)
        self.chart = ExpertChart(statistics)
        self.order_buttons = toggle_buttons("Tokens by", ORDERS)
        super().__init__([self.heading, self.order_buttons, self.map, self.chart])
        for trait in ("expert", "pinned", "order"):
            traitlets.link((self.map, trait), (self, trait))
        traitlets.link((self.map, "order"), (self.order_buttons, "value"))
        self.map.observe(lambda _: self.chart.draw(*self.map.expert), "expert")
        self.chart.draw(*self.map.expert)

    @traitlets.validate("expert", "pinned", "order")
    def _check(self, proposal: dict[str, Any]) -> Any:
        """The map knows what can be selected."""
        setattr(self.map, proposal["trait"].name, proposal["value"])
        return proposal["value"]

    def to_html(self, path: str | PathLike[str]) -> Path:
        """Writes the view, as it stands, to one HTML file that opens offline and stays interactive; returns `path`.

        Of a large model the page holds the chart, and what experts promote, of the chosen layer alone, and says so.
        """
        path = Path(path)
        state: dict[str, Any] = {name: getattr(self.map, name) for name in ("data", "expert", "pinned", "order")}
        layer = self.map.expert[0]
        plotly = resources.files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")
        page = front_end.page(
            title=TITLE,
            script=front_end.module("experts_page.js"),
            css=front_end.style(*STYLE, "load_chart.css"),
            state=state
            | {
                "heading": [TITLE, self._aid],
                "menus": [["order", "Tokens by", [list(each) for each in ORDERS]]],
                "drawn": self.chart.exported(layer),
                "promotions": self._promotions.for_page(layer) if self._promotions else [],
            },
            library=plotly,
        )
        path.write_text(page, encoding="utf-8")
        return path


def _aid(trace: Trace) -> str:
    name = f"{visible(trace.model_name)}: " if trace.model_name else ""
    return (
        f"{name}{trace.n_layers} layers of {trace.n_experts} experts, {trace.expert_indices.shape[2]} of which serve a "
        "token. Choose one on the map."
    )
