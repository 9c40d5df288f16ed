"""The tree of branches with the text of one of them: one ES module, in a notebook and in an exported page."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import traitlets

from gptoss_lab.views import front_end
from gptoss_lab.views.thought_data import branch_data, no_branch, node, tree_data
from gptoss_lab.views.token_strip import PANE_STYLE, TokenStrip

if TYPE_CHECKING:
    from gptoss_lab.thought.tree import Branch

STYLE = (*PANE_STYLE, "bars.css", "thought_map.css")


class ThoughtMap(TokenStrip):
    """Branches, and the tokens of the one that is chosen; to a strip's traits it adds these.

    `branch`: the number of the chosen branch, None where there is none. `live`: whether alternatives can be taken;
    `taken` is then (position, choice, how many have been taken) of the last that was.
    """

    _esm = front_end.module("thought_map.js")
    _css = front_end.style(*STYLE)

    tree: Any = traitlets.List().tag(sync=True)
    branch = traitlets.Int(None, allow_none=True).tag(sync=True)
    live = traitlets.Bool(False).tag(sync=True)
    taken: Any = traitlets.Tuple(default_value=None, allow_none=True).tag(sync=True)

    def __init__(self, live: bool = False) -> None:
        self._branches: dict[int, Branch] = {}
        self._nodes: WeakKeyDictionary[Branch, dict[str, Any]] = WeakKeyDictionary()
        self._drawn: Branch | None = None
        super().__init__(data=no_branch(), part="reply", live=live)
        self.observe(lambda _: self._show_chosen(), "branch")

    def show(self, branches: Sequence["Branch"], chosen: int | None = None) -> None:
        """Shows these branches, and the text of the chosen one; of the one that is chosen already where not given."""
        self._branches = {branch.number: branch for branch in branches}
        for branch in branches:
            if branch not in self._nodes:
                self._nodes[branch] = node(branch)
        with self.hold_sync():
            self.tree = tree_data(self._nodes[branch] for branch in branches)
            self.branch = self.branch if chosen is None else chosen
            self._show_chosen()

    @property
    def branches(self) -> list["Branch"]:
        """Those that are shown."""
        return list(self._branches.values())

    def _show_chosen(self) -> None:
        chosen = None if self.branch is None else self._branches.get(self.branch)
        if chosen is self._drawn:
            return
        self._drawn = chosen
        with self.hold_sync():
            self.pinned = self.selection = None
            self.data = no_branch() if chosen is None else branch_data(chosen)

    @traitlets.validate("branch")
    def _check_branch(self, proposal: dict[str, Any]) -> int | None:
        number = proposal["value"]
        if number is not None and number not in self._branches:
            raise traitlets.TraitError(f"branch={number}: expected one of {', '.join(map(str, self._branches))}")
        return number
