"""What the thought view sends to a browser: the tree of branches and a branch's tokens, as plain values and bytes."""

import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from gptoss_lab.harmony import Span
from gptoss_lab.views.kinds import kind_of
from gptoss_lab.views.plain_text import as_token, quoted, visible
from gptoss_lab.views.quantities import Quantity, surprisal
from gptoss_lab.views.strip_data import as_bytes, colours, conversation

if TYPE_CHECKING:
    from gptoss_lab.thought.tree import Branch
    from gptoss_lab.trace import Trace

PER_POSITION = ("shown", "quoted", "sections", "ids", "logprobs", "entropies", "given")
"""What a branch has in common with its parent for as long as both read the same."""

UNSURE = np.log(20)
"""Nats of entropy from which a token's colour is full: as unsure as between 20 tokens."""

LONGEST_ANSWER = 200


def tree_data(nodes: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The branches as they are drawn, a row each: a branch's children below it, those that leave it last first.

    In this order no line crosses another. nodes: as `node` makes them.
    """
    every = list(nodes)
    children: dict[int | None, list[dict[str, Any]]] = {}
    for each in every:
        children.setdefault(each["parent"], []).append(each)
    first = every[0]["answer"] if every else None
    rows = []
    waiting = [(each, 1) for each in reversed(children.get(None, []))]
    while waiting:
        each, level = waiting.pop()
        same = each["answer"] == first if each["answer"] else None
        rows.append(each | {"level": level, "sameAnswer": same if each["number"] else None})
        below = sorted(children.get(each["number"], []), key=lambda child: (child["fork"], -child["number"]))
        waiting += [(child, level + 1) for child in below]
    return rows


def node(branch: "Branch") -> dict[str, Any]:
    """A branch in the tree. Places count from the start of the reply: `fork`, where it leaves its parent; `length`;
    `stretches`, its own part as [start, stop, kind]; `put`, what edits put into it, as [start, stop]."""
    n, start = branch.n_prompt, max(branch.shared, branch.n_prompt)
    kinds = _kinds(branch)
    given = [token.source == "given" for token in branch.tokens]
    return {
        "number": branch.number,
        "parent": branch.parent,
        "fork": start - n if branch.parent is not None else 0,
        "length": len(branch) - n,
        "stretches": [[first - n, last - n, kind] for first, last, kind in _runs(kinds, start)],
        "put": [[first - n, last - n] for first, last, is_given in _runs(given, start) if is_given],
        "origin": visible(branch.origin),
        "answer": as_token(branch.text.strip())[:LONGEST_ANSWER],
        "status": visible(branch.status),
        "sound": not branch.problems,
    }


def branch_data(branch: "Branch", known: dict[str, int] | None = None) -> dict[str, Any]:
    """A branch for a token strip (see `strip_data.conversation`), and its steps.

    Arrays are bytes (little endian, C order): entropies float32 [pos], in nats; given uint8 [pos], 1 for tokens that an
    edit put in. known: texts of alternatives and their numbers, where several branches are to have one list.
    """
    said = _Said(
        token_ids=np.array(branch.ids, dtype=np.int32),
        texts=[token.text for token in branch.tokens],
        spans=list(branch.spans),
        n_prompt=branch.n_prompt,
        logprobs=np.array([token.logprob for token in branch.tokens], dtype=np.float32),
    )
    entropies = np.array([token.entropy for token in branch.tokens], dtype=np.float32)
    steps = _steps(branch)
    data = conversation(cast("Trace", said))  # which reads nothing else of a trace
    lines = np.frombuffer(data["breaks"], "<i4")
    parted = branch.parent is not None and branch.n_prompt < branch.shared < len(branch)
    return data | {
        "nLayers": 0,
        "blocks": _with_problems(data["blocks"], branch),
        "quantities": colours([surprisal(said.logprobs), _entropy(entropies)]),
        "breaks": as_bytes(sorted({*lines.tolist(), *(step["stop"] - 1 for step in steps)}), "<i4"),
        "entropies": as_bytes(entropies, "<f4"),
        "given": as_bytes([token.source == "given" for token in branch.tokens], "u1"),
        "marks": [[branch.shared, f"leaves branch {branch.parent} ▸"]] if parted else [],
        "steps": steps,
        "alternatives": _alternatives(branch, {} if known is None else known),
    }


def no_branch() -> dict[str, Any]:
    """A strip's data where there is no branch yet."""
    nothing = np.zeros(0, dtype=np.float32)
    return {
        "nTokens": 0,
        "nPrompt": 0,
        "nLayers": 0,
        "facets": {"role": [], "channel": []},
        "quantities": colours([surprisal(nothing), _entropy(nothing)]),
    }


def page_branches(branches: Sequence["Branch"]) -> dict[str, Any]:
    """All branches for a page (see thought_store.js): what a branch has in common with its parent is there once."""
    known: dict[str, int] = {}
    kept = {str(branch.number): _own(branch_data(branch, known), branch) for branch in branches}
    quantities = branch_data(branches[0])["quantities"] if branches else []
    words = [{name: value for name, value in each.items() if name != "values"} for each in quantities]
    return {"branches": kept, "texts": [quoted(text) for text in known], "quantities": words}


class _Said(NamedTuple):
    """What `conversation` reads of a trace."""

    token_ids: NDArray[np.int32]
    texts: list[str]
    spans: list[Span]
    n_prompt: int
    logprobs: NDArray[np.float32]
    alternatives: None = None


def _own(data: dict[str, Any], branch: "Branch") -> dict[str, Any]:
    """A branch's data without what its parent holds, and without what a page makes of the rest."""
    shared = branch.shared
    for name in PER_POSITION:
        width = len(data[name]) // data["nTokens"]
        data[name] = data[name][shared * width :]
    alternatives = data["alternatives"]
    for name in ("of", "logprobs"):
        alternatives[name] = alternatives[name][shared * 4 * alternatives["width"] :]
    del alternatives["texts"]
    return data | {"parent": branch.parent, "shared": shared, "quantities": []}


def _kinds(branch: "Branch") -> list[str]:
    """The kind of each token's message, [pos]."""
    channels = {span.message: span.channel for span in branch.spans if span.channel}
    return [kind_of(span.role, channels.get(span.message)) for span in branch.spans]


def _with_problems(blocks: list[dict[str, Any]], branch: "Branch") -> list[dict[str, Any]]:
    """The messages, those of the reply with a note where their header is not in harmony's form."""
    reply = [block for block in blocks if block["end"] > branch.n_prompt]
    noted = {
        block["start"]: {"note": "malformed header"}
        for block, message in zip(reply, branch.messages, strict=False)
        if message.malformed is not None
    }
    return [block | noted.get(block["start"], {}) for block in blocks]


def _runs(values: Sequence[Any], start: int) -> list[tuple[int, int, Any]]:
    """Stretches of equal values from a position on: first, one after the last, value."""
    found = []
    for value, group in groupby(range(start, len(values)), key=values.__getitem__):
        positions = list(group)
        found.append((positions[0], positions[-1] + 1, value))
    return found


def _steps(branch: "Branch") -> list[dict[str, Any]]:
    numbers = ("probability", "least_probability", "entropy")
    kinds = _kinds(branch)
    return [
        {
            "number": row["step"],
            "start": row["start"],
            "stop": row["stop"],
            "text": as_token(row["text"].strip()),
            "kind": kinds[row["start"]],
            "sampled": row["sampled"],
            **{name: _known(row[name]) for name in numbers},
        }
        for row in branch.step_table().to_dict("records")
    ]


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _alternatives(branch: "Branch", known: dict[str, int]) -> dict[str, Any]:
    """As in `strip_data`: `of` int32, numbers in texts or -1, and `logprobs` float32, both [pos, choice]."""
    width = max((len(token.alternatives) for token in branch.tokens), default=0) or 1
    of = np.full((len(branch), width), -1, dtype=np.int32)
    logprobs = np.full((len(branch), width), np.nan, dtype=np.float32)
    for position, token in enumerate(branch.tokens):
        for choice, other in enumerate(token.alternatives):
            of[position, choice] = known.setdefault(other.text, len(known))
            logprobs[position, choice] = other.logprob
    return {
        "width": width,
        "texts": [quoted(text) for text in known],
        "of": as_bytes(of, "<i4"),
        "logprobs": as_bytes(logprobs, "<f4"),
    }


def _entropy(entropies: NDArray[np.float32]) -> Quantity:
    return Quantity(
        name="entropy",
        title="entropy",
        aid="How unsure the model was of what comes at each place, whatever came.",
        unit="nats",
        faint=0.0,
        full=float(UNSURE),
        faint_words="0 nats: sure",
        full_words="3.0 nats or more: as unsure as between 20 tokens",
        layered=False,
        together="",
        values=entropies,
    )
