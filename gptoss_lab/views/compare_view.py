"""The comparing view: two runs side by side, where they send tokens to other experts, and by how much."""

from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from gptoss_lab.trace import Trace
from gptoss_lab.views.compare_data import flips
from gptoss_lab.views.compare_map import STYLE, CompareMap
from gptoss_lab.views.compared import Compared, Pairs, compared
from gptoss_lab.views.plain_text import visible
from gptoss_lab.views.strip_view import StripView

if TYPE_CHECKING:
    from gptoss_lab.experiments.comparison import Comparison


def compare(
    first: "Trace | Comparison",
    second: Trace | None = None,
    *,
    pairs: Pairs | None = None,
    names: tuple[str, str] | None = None,
) -> "CompareView":
    """Two traces side by side, or the two of what `lab.compare` returned; `.to_html(path)` makes it one offline file.

    pairs: which positions of the first are held against which of the second; where not given, those of equal number for
    as far as both runs read the same tokens. names: what the runs are called.

    Raises ValueError for runs that have nothing to be compared on: other models, other tokens from the start.
    """
    return CompareView(compared(first, second, pairs, names))


class CompareView(StripView):
    """The tokens of two runs, their maps of experts, and a list of the choices that differ.

    Positions are those of the first run. `cell` ((layer, expert) or None), `alone` (the position of a pinned token that
    the second run alone has) and all that StripView has follow what is clicked, and may be set; see `CompareMap`, which
    `map` is.
    """

    TITLE = "Where do two runs route differently?"
    FOLLOWED = (*StripView.FOLLOWED, "cell", "alone")
    SCRIPT = "compare_page.js"
    STYLE = STYLE

    cell: Any = traitlets.Tuple(default_value=None, allow_none=True)
    alone = traitlets.Int(None, allow_none=True)

    map: CompareMap

    def __init__(self, runs: Compared) -> None:
        super().__init__(_aid(runs), CompareMap(runs))

    @traitlets.validate("cell", "alone")
    def _check_in_map(self, proposal: dict[str, Any]) -> Any:
        """The map knows what can be selected."""
        setattr(self.map, proposal["trait"].name, proposal["value"])
        return proposal["value"]


def _aid(runs: Compared) -> str:
    table = flips(runs).drop_duplicates(["layer", "position"])
    total = runs.first.n_layers * len(runs.pairs)
    noise = int(table["within_noise"].sum())
    edits = f"In the {visible(runs.names[1])} run {' and '.join(map(visible, runs.edits))}. " if runs.edits else ""
    if runs.same_text:
        extent = f"Both read the same {len(runs.pairs):,} tokens."
    else:
        extent = f"{len(runs.pairs):,} tokens of the one are held against as many of the other."
        if (runs.pairs == np.arange(len(runs.pairs))[:, None]).all():
            extent = f"Compared on their first {len(runs.pairs):,} tokens, which both read alike."
    return (
        f"{edits}{extent} Of {total:,} choices of experts {len(table):,} differ"
        f"{f', {noise:,} of them within rounding' if noise else ''}."
    )
