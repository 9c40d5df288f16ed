"""What views with a token strip have in common: a heading, controls, the strip with what is beside it, and a file."""

from os import PathLike
from pathlib import Path
from typing import Any

import ipywidgets
import traitlets

from gptoss_lab.views import front_end
from gptoss_lab.views.heading import heading_html
from gptoss_lab.views.strip_controls import StripControls, exported_controls
from gptoss_lab.views.token_strip import BY_CHANNEL, PANE_STYLE, TokenStrip


class StripView(ipywidgets.VBox):
    """A token strip with its controls, and more below it.

    `pinned`, `selection`, `part`, `role`, `channel`, `colour` and `layer` follow what is clicked, and may be set; see
    `TokenStrip`, which `map` is.
    """

    TITLE = ""
    FOLLOWED: tuple[str, ...] = ("pinned", "selection", "part", "role", "channel", "colour", "layer")
    """Traits of the map that the view has too."""
    SCRIPT = "tokens_page.js"
    STYLE: tuple[str, ...] = PANE_STYLE

    pinned = traitlets.Int(None, allow_none=True)
    selection: Any = traitlets.Tuple(default_value=None, allow_none=True)
    part = traitlets.Unicode(None, allow_none=True)
    role = traitlets.Unicode(None, allow_none=True)
    channel = traitlets.Unicode(None, allow_none=True)
    colour = traitlets.Unicode(BY_CHANNEL)
    layer = traitlets.Int(None, allow_none=True)

    def __init__(self, aid: str, strip: TokenStrip, *below: ipywidgets.Widget) -> None:
        self.map = strip
        self.controls = StripControls(strip)
        self.heading = ipywidgets.HTML()
        self._say(aid)
        super().__init__([self.heading, self.controls, strip, *below])
        for name in self.FOLLOWED:
            traitlets.link((strip, name), (self, name))

    def to_html(self, path: str | PathLike[str]) -> Path:
        """Writes the view, as it stands, to one HTML file that opens offline and stays interactive; returns `path`."""
        path = Path(path)
        page = front_end.page(
            title=self.TITLE,
            script=front_end.module(self.SCRIPT),
            css=front_end.style(*self.STYLE),
            state=self._page_state(),
            library=self._page_library(),
        )
        path.write_text(page, encoding="utf-8")
        return path

    def _page_state(self) -> dict[str, Any]:
        state = {name: getattr(self.map, name) for name in ("data", *self.FOLLOWED)}
        return state | {"heading": [self.TITLE, self._aid], "controls": exported_controls(self.map)}

    def _page_library(self) -> str:
        return ""

    def _say(self, aid: str) -> None:
        self._aid = aid
        self.heading.value = heading_html(self.TITLE, aid)

    @traitlets.validate("pinned", "selection", "part", "role", "channel", "colour", "layer")
    def _check(self, proposal: dict[str, Any]) -> Any:
        """The strip knows what can be selected."""
        setattr(self.map, proposal["trait"].name, proposal["value"])
        return proposal["value"]
