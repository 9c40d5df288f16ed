"""A trace's tokens by themselves: one ES module, in a notebook and in an exported page."""

from typing import Any

from gptoss_lab.trace import Trace
from gptoss_lab.views import front_end
from gptoss_lab.views.quantities import quantities
from gptoss_lab.views.strip_data import colours, conversation
from gptoss_lab.views.token_strip import PANE_STYLE, TokenStrip


class TokensMap(TokenStrip):
    """A trace's tokens, message by message."""

    _esm = front_end.module("tokens_map.js")
    _css = front_end.style(*PANE_STYLE)

    def __init__(self, trace: Trace) -> None:
        super().__init__(data=self._data(trace))

    def show(self, trace: Trace) -> None:
        """Shows another trace in place, with nothing pinned or left out."""
        self._show(self._data(trace))

    def _data(self, trace: Trace) -> dict[str, Any]:
        return conversation(trace) | {"quantities": colours(quantities(trace)), "nLayers": trace.n_layers}
