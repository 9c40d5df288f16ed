"""The lens view: what the model would say next at each point of its layers, token by token."""

from os import PathLike
from pathlib import Path
from typing import Any

import ipywidgets
import traitlets

from gptoss_lab.analyses.lens import lens_array
from gptoss_lab.trace import Trace
from gptoss_lab.views import front_end
from gptoss_lab.views.controls import controls_row, toggle_buttons
from gptoss_lab.views.heading import heading_html
from gptoss_lab.views.lens_grid import COLOURS, DETAILS, STYLE, LensGrid
from gptoss_lab.views.plain_text import visible

TITLE = "When does the model know what to say?"

_CONTROLS = {"colour": ("Colour by", COLOURS), "detail": ("Points", DETAILS)}


def lens(trace: Trace) -> "LensView":
    """The logit lens at every residual point, to look at and click through; `.to_html(path)` makes it one offline file.

    The trace must hold it: `model.trace(reply, record=("lens",))`. Raises ValueError otherwise.
    """
    return LensView(trace)


class LensView(ipywidgets.VBox):
    """Grid of guesses, a row a token and a column a point, with its controls.

    `pinned` (a position or None), `point` (a number or None), `colour` and `detail` follow what is clicked, and may be
    set; see `LensGrid`, which is `grid`.
    """

    pinned = traitlets.Int(None, allow_none=True)
    point = traitlets.Int(None, allow_none=True)
    colour = traitlets.Unicode()
    detail = traitlets.Unicode()

    def __init__(self, trace: Trace) -> None:
        self._aid = _aid(trace)
        self.heading = ipywidgets.HTML(heading_html(TITLE, self._aid))
        self.grid = LensGrid(trace)
        self.buttons = {name: toggle_buttons(title, options) for name, (title, options) in _CONTROLS.items()}
        super().__init__([self.heading, controls_row(*self.buttons.values()), self.grid])
        for trait in ("pinned", "point", "colour", "detail"):
            traitlets.link((self.grid, trait), (self, trait))
        for trait, buttons in self.buttons.items():
            traitlets.link((self.grid, trait), (buttons, "value"))

    def show(self, trace: Trace) -> None:
        """Shows another trace in place."""
        self._aid = _aid(trace)
        self.heading.value = heading_html(TITLE, self._aid)
        self.grid.show(trace)

    @traitlets.validate("pinned", "point", "colour", "detail")
    def _check(self, proposal: dict[str, Any]) -> Any:
        """The grid knows what can be selected."""
        setattr(self.grid, proposal["trait"].name, proposal["value"])
        return proposal["value"]

    def to_html(self, path: str | PathLike[str]) -> Path:
        """Writes the view, as it stands, to one HTML file that opens offline and stays interactive; returns `path`."""
        path = Path(path)
        traits = ("data", "pinned", "point", "colour", "detail")
        menus = [[name, title, [list(each) for each in options]] for name, (title, options) in _CONTROLS.items()]
        page = front_end.page(
            title=TITLE,
            script=front_end.module("lens_page.js"),
            css=front_end.style(*STYLE),
            state={name: getattr(self.grid, name) for name in traits} | {"heading": [TITLE, self._aid], "menus": menus},
        )
        path.write_text(page, encoding="utf-8")
        return path


def _aid(trace: Trace) -> str:
    lens_array(trace, "lens_tokens")
    name = f"{visible(trace.model_name)}: " if trace.model_name else ""
    return (
        f"{name}{trace.n_layers} layers. Each row is a token that the model has read; from left to right, what it "
        "would say next if it had to speak at that point of its layers (the logit lens). Early guesses need not mean "
        "anything."
    )
