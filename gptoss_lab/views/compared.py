"""Two runs held against each other: which positions of the one against which of the other, and under what names."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gptoss_lab.edits import describe
from gptoss_lab.trace import Trace

if TYPE_CHECKING:
    from gptoss_lab.experiments.comparison import Comparison

Pairs = Sequence[tuple[int, int]]


class Compared(NamedTuple):
    """What the comparing view shows."""

    first: Trace
    second: Trace
    pairs: NDArray[np.int64]
    """[pair, 2]: positions in the first and in the second; a position is in one pair at most."""
    names: tuple[str, str]
    edits: tuple[str, ...] = ()
    """What was done to the second, in plain words."""
    kl: NDArray[np.float32] | None = None
    """[pos of first], in nats: how far expectations moved there."""

    @property
    def same_text(self) -> bool:
        """Whether every token of the one is held against its equal in the other."""
        return self.first.texts == self.second.texts and len(self.pairs) == len(self.first.texts)


def compared(
    first: "Trace | Comparison", second: Trace | None, pairs: Pairs | None, names: tuple[str, str] | None
) -> Compared:
    """The two runs; without pairs, for as far as both read the same tokens.

    Raises ValueError where there is one run alone, where the runs begin with different tokens and no pairs are given,
    and where a position is in two pairs.
    """
    if not isinstance(first, Trace):
        if second is not None:
            raise ValueError("give two traces, or one comparison: a comparison holds both of its own")
        edits = tuple(describe(first.edits))
        together = _together(first.before, first.after, pairs)
        return Compared(first.before, first.after, together, names or ("unedited", "edited"), edits, first.kl)
    if second is None:
        raise ValueError("one trace alone: give a second one, or what lab.compare returned")
    return Compared(first, second, _together(first, second, pairs), names or ("first run", "second run"))


def _together(first: Trace, second: Trace, pairs: Pairs | None) -> NDArray[np.int64]:
    if pairs is None:
        shortest = min(len(first.token_ids), len(second.token_ids))
        same = first.token_ids[:shortest] == second.token_ids[:shortest]
        length = shortest if same.all() else int(same.argmin())
        if length == 0:
            raise ValueError("the runs begin with different tokens: say with pairs= which positions belong together")
        return np.repeat(np.arange(length)[:, None], 2, axis=1)
    found = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    if any(len(np.unique(side)) < len(found) for side in found.T):
        raise ValueError("pairs: a position may be in one pair alone")
    return found
