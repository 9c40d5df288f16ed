"""Heads, one of them large, and arcs between tokens: one ES module, in a notebook and in an exported page."""

from typing import Any

import anywidget
import numpy as np
import traitlets

from gptoss_lab.trace import Trace
from gptoss_lab.views import front_end
from gptoss_lab.views.attention_data import large, overview, recorded
from gptoss_lab.views.strip_data import STRIP_STYLE

STYLE = (*STRIP_STYLE, "head_grid.css", "attention_map.css")

DIRECTIONS = [("what it reads", "reads"), ("what reads it", "read by")]


class AttentionMap(anywidget.AnyWidget):
    """What tokens read.

    `head`: the (layer, head) that is shown large. `pinned`: the pinned token's position, or None. `direction`: whether
    arcs lead to what the pinned token "reads", or to what it is "read by". All three may be set.

    `data` goes to the browser at once (see `attention_data.overview`), `large` whenever another head is chosen (see
    `attention_data.large`).
    """

    _esm = front_end.module("attention_map.js")
    _css = front_end.style(*STYLE)

    data = traitlets.Dict().tag(sync=True)
    large = traitlets.Dict().tag(sync=True)
    head: Any = traitlets.Tuple(traitlets.Int(), traitlets.Int()).tag(sync=True)
    pinned = traitlets.Int(None, allow_none=True).tag(sync=True)
    direction = traitlets.Enum([name for _, name in DIRECTIONS], "reads").tag(sync=True)

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        head = _most_telling(trace)
        super().__init__(data=overview(trace), head=head, large=large(trace, *head))
        self.observe(self._enlarge, "head")

    def show(self, trace: Trace) -> None:
        """Shows another trace in place, with nothing pinned."""
        data, head = overview(trace), _most_telling(trace)
        with self.hold_sync():
            self.trace, self.data, self.pinned = trace, data, None
            self.head = head
            self._enlarge()

    def _enlarge(self, _: object = None) -> None:
        self.large = large(self.trace, *self.head)

    @traitlets.validate("head")
    def _check_head(self, proposal: dict[str, Any]) -> tuple[int, int]:
        layers, heads = self.trace.attention_layers, self.trace.attention_heads
        layer, head = proposal["value"]
        if layer not in layers or head not in heads:
            raise traitlets.TraitError(
                f"head={(layer, head)}: this trace holds (layer, head) for layers {_listed(layers)} and "
                f"heads {_listed(heads)}"
            )
        return layer, head

    @traitlets.validate("pinned")
    def _check_pinned(self, proposal: dict[str, Any]) -> int | None:
        position = proposal["value"]
        if position is not None and not 0 <= position < len(self.trace.token_ids):
            raise traitlets.TraitError(f"pinned={position}: this trace has tokens 0 to {len(self.trace.token_ids) - 1}")
        return position


def _most_telling(trace: Trace) -> tuple[int, int]:
    """The head that leaves least to its sink."""
    means = recorded(trace)[1].mean(axis=2)
    layer, head = np.unravel_index(int(means.argmin()), means.shape)
    return trace.attention_layers[layer], trace.attention_heads[head]


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers))
