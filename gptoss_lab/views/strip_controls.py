"""What says which tokens of a strip are on show, and what their colours mean: controls that follow it, and it them."""

from typing import Any

import ipywidgets
import traitlets

from gptoss_lab.views.controls import controls_row, toggle_buttons
from gptoss_lab.views.token_strip import TokenStrip

CONTROLS = {"part": "Show", "role": "Role", "channel": "Channel", "colour": "Colour by", "layer": "Layer"}
"""Trait of the strip -> what its control is called. Their options are the strip's `parts`, `roles` and so on."""


class StripControls(ipywidgets.VBox):
    """`by_name["part"]`, `by_name["role"]` and so on are the controls."""

    def __init__(self, strip: TokenStrip) -> None:
        self._strip = strip
        self.by_name: dict[str, Any] = {
            name: toggle_buttons(title, []) if name in ("part", "channel") else _menu(title)
            for name, title in CONTROLS.items()
        }
        rows = ("part", "role", "channel"), ("colour", "layer")
        super().__init__([controls_row(*(self.by_name[name] for name in row)) for row in rows])
        self.refresh()
        for name, control in self.by_name.items():
            traitlets.link((strip, name), (control, "value"), transform=(_wrapped, _unwrapped))
        strip.observe(self._offer_layers, "colour")

    def refresh(self) -> None:
        """To be called when the strip shows another trace."""
        for name, control in self.by_name.items():
            control.options = [(title, _wrapped(value)) for title, value in getattr(self._strip, f"{name}s")]
            control.value = _wrapped(getattr(self._strip, name))
        self._offer_layers()

    def _offer_layers(self, _: object = None) -> None:
        layered = any(each["name"] == self._strip.colour and each["layered"] for each in self._strip.data["quantities"])
        self.by_name["layer"].disabled = not layered


# For ipywidgets None means that nothing is chosen, and here it is a choice.
def _wrapped(value: Any) -> tuple[Any]:
    return (value,)


def _unwrapped(value: tuple[Any]) -> Any:
    return value[0]


def exported_controls(strip: TokenStrip) -> list[dict[str, Any]]:
    """The same as menus of a page, for `stripControls` in strip_controls.js."""
    return [
        {"name": name, "title": title, "options": [list(each) for each in getattr(strip, f"{name}s")]}
        for name, title in CONTROLS.items()
    ]


def _menu(title: str) -> ipywidgets.Dropdown:
    return ipywidgets.Dropdown(
        description=title, style={"description_width": "initial"}, layout={"width": "auto", "min_width": "140px"}
    )
