"""Controls of the live views: ipywidgets, as wide as their words."""

from collections.abc import Sequence
from typing import Any

import ipywidgets


def toggle_buttons(description: str, options: Sequence[Any], **more: Any) -> ipywidgets.ToggleButtons:
    """A row of buttons of which one is down."""
    style = {"description_width": "initial", "button_width": "auto"}
    buttons = ipywidgets.ToggleButtons(description=description, options=options, style=style, **more)
    buttons.add_class("gl-choice")
    return buttons


def controls_row(*controls: ipywidgets.Widget) -> ipywidgets.Box:
    """Controls beside one another, or below where there is no room."""
    return ipywidgets.Box(controls, layout={"flex_flow": "row wrap", "align_items": "center", "grid_gap": "2px 20px"})
