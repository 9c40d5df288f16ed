"""What every view with a token strip keeps: what is pinned, selected, on show, and what the colours mean."""

from typing import Any

import anywidget
import traitlets

from gptoss_lab.views.strip_data import STRIP_STYLE

PANE_STYLE = (*STRIP_STYLE, "token_pane.css")
BY_CHANNEL = "channel"


class TokenStrip(anywidget.AnyWidget):
    """Tokens, message by message; its subclasses say what is drawn beside them.

    `pinned`: the pinned token's position, or None. `selection`: the selected (start, end), `end` exclusive, or None.
    `part` ("prompt" or "reply"), `role` and `channel`: only such tokens are on show; None lets all through. `colour`:
    "channel", or another of `colours`; `layer`: the layer that it is of, None for all together. All follow clicks and
    keys, and may be set.

    `data` goes to the browser whole. All hold a conversation, its `quantities` (see `strip_data`) and `nLayers`.
    """

    data = traitlets.Dict().tag(sync=True)
    pinned = traitlets.Int(None, allow_none=True).tag(sync=True)
    selection: Any = traitlets.Tuple(traitlets.Int(), traitlets.Int(), default_value=None, allow_none=True).tag(
        sync=True
    )
    part: Any = traitlets.Enum(["prompt", "reply"], default_value=None, allow_none=True).tag(sync=True)
    role = traitlets.Unicode(None, allow_none=True).tag(sync=True)
    channel = traitlets.Unicode(None, allow_none=True).tag(sync=True)
    colour = traitlets.Unicode(BY_CHANNEL).tag(sync=True)
    layer = traitlets.Int(None, allow_none=True).tag(sync=True)

    def _show(self, data: dict[str, Any]) -> None:
        """Draws other data in place, with nothing pinned or left out."""
        with self.hold_sync():
            for name in ("pinned", "selection", "part", "role", "channel", "layer"):
                setattr(self, name, None)
            self.colour = BY_CHANNEL
            self.data = data

    @property
    def parts(self) -> list[tuple[str, str | None]]:
        """What `part` can be, (title, value)."""
        only_one = self.data["nPrompt"] in (0, self.data["nTokens"])
        return [("Everything", None)] if only_one else [("Everything", None), ("Prompt", "prompt"), ("Reply", "reply")]

    @property
    def roles(self) -> list[tuple[str, str | None]]:
        """What `role` can be, (title, value)."""
        return self._facet("role")

    @property
    def channels(self) -> list[tuple[str, str | None]]:
        """What `channel` can be, (title, value)."""
        return self._facet("channel")

    @property
    def colours(self) -> list[tuple[str, str]]:
        """What `colour` can be, (title, value)."""
        return [("channel", BY_CHANNEL), *((each["title"], each["name"]) for each in self.data["quantities"])]

    @property
    def layers(self) -> list[tuple[str, int | None]]:
        """What `layer` can be, (title, value)."""
        return [("all layers", None), *((f"layer {layer}", layer) for layer in range(self.data["nLayers"]))]

    def _facet(self, name: str) -> list[tuple[str, str | None]]:
        return [("All", None), *((each["title"], each["name"]) for each in self.data["facets"][name])]

    @traitlets.validate("pinned")
    def _check_pinned(self, proposal: dict[str, Any]) -> int | None:
        position = proposal["value"]
        if position is not None and not 0 <= position < self.data["nTokens"]:
            raise traitlets.TraitError(f"pinned={position}: this trace has tokens 0 to {self.data['nTokens'] - 1}")
        return position

    @traitlets.validate("selection")
    def _check_selection(self, proposal: dict[str, Any]) -> tuple[int, int] | None:
        selection = proposal["value"]
        if selection is not None and not 0 <= selection[0] < selection[1] <= self.data["nTokens"]:
            raise traitlets.TraitError(
                f"selection={selection}: expected (start, end), start before end, end at most {self.data['nTokens']}"
            )
        return selection

    @traitlets.validate("role", "channel", "colour", "layer")
    def _check_choice(self, proposal: dict[str, Any]) -> Any:
        name = proposal["trait"].name
        known = [value for _, value in getattr(self, f"{name}s")]
        if proposal["value"] not in known:
            choices = ", ".join(map(repr, known))
            raise traitlets.TraitError(f"{name}={proposal['value']!r}: expected one of {choices}")
        return proposal["value"]
