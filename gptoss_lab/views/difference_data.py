"""What the view of two branches sends to a browser: both texts with what differs marked, and what each would answer."""

from itertools import groupby
from typing import TYPE_CHECKING, Any

from gptoss_lab.views.compared import Pairs
from gptoss_lab.views.conversation import blocks
from gptoss_lab.views.plain_text import as_token, quoted, visible

if TYPE_CHECKING:
    from gptoss_lab.thought.differences import Difference
    from gptoss_lab.thought.tree import Branch


def names(difference: "Difference") -> tuple[str, str]:
    """What the branches are called."""
    return f"branch {difference.a.number}", f"branch {difference.b.number}"


def difference_data(difference: "Difference") -> dict[str, Any]:
    """names, facts (how each came about and ended) and sides, one a branch; answers, or None where unknown.

    A side is its messages: kind, title and note as in `conversation.blocks`, and parts, [text, differs]. Where they
    part, a third value says so.
    """
    changed: tuple[set[int], set[int]] = (set(), set())
    for row in difference.text().to_dict("records"):
        if row["change"] != "same":
            changed[0].update(range(row["a_start"], row["a_stop"]))
            changed[1].update(range(row["b_start"], row["b_stop"]))
    parting = difference.divergence or (None, None)
    branches = difference.a, difference.b
    return {
        "names": list(names(difference)),
        "facts": [f"{visible(branch.origin)}; it {visible(branch.status)}." for branch in branches],
        "parting": _parting(difference),
        "sides": [_side(*each) for each in zip(branches, changed, parting, strict=True)],
        "answers": None
        if difference.chances is None
        else [[as_token(answer), *chances] for answer, chances in difference.chances.items()],
    }


def routed_alike(difference: "Difference") -> Pairs:
    """The places of a and b that hold the same token of the replies, and of prompts that are the same."""
    assert difference.traces is not None
    a, b = difference.a, difference.b
    same = a.ids[: a.n_prompt] == b.ids[: b.n_prompt]
    pairs = [(place, place) for place in range(a.n_prompt if same else 0)]
    for row in difference.text().to_dict("records"):
        if row["change"] == "same":
            pairs += zip(range(row["a_start"], row["a_stop"]), range(row["b_start"], row["b_stop"]), strict=True)
    ends = [len(trace.token_ids) for trace in difference.traces]
    return [(one, other) for one, other in pairs if one < ends[0] and other < ends[1]]


def _side(branch: "Branch", changed: set[int], parting: int | None) -> list[dict[str, Any]]:
    """The reply's messages, each cut where what differs begins and ends."""
    drawn: list[dict[str, Any]] = [{**block, "parts": []} for block in blocks(branch.messages)]
    first = branch.spans[branch.n_prompt].message if len(branch) > branch.n_prompt else 0
    content = [place for place in range(branch.n_prompt, len(branch)) if branch.spans[place].section == "content"]
    for (message, differs, parts), places in groupby(
        content, key=lambda place: (branch.spans[place].message, place in changed, place == parting)
    ):
        text = "".join(branch.tokens[place].text for place in places)
        drawn[message - first]["parts"].append([visible(text), differs, parts])
    return drawn


def _parting(difference: "Difference") -> str:
    if difference.divergence is None:
        return "Both say the same, token by token."
    texts = [
        f"“{quoted(branch.tokens[place].text)}”" if place < len(branch) else "its end"
        for branch, place in zip((difference.a, difference.b), difference.divergence, strict=True)
    ]
    after = difference.divergence[0] - difference.a.n_prompt
    one, other = names(difference)
    return (
        f"They part after {after} token{'s' * (after != 1)} of the reply: {texts[0]} in {one}, {texts[1]} in {other}."
    )
