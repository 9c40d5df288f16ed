"""Routing by step: which experts serve planning, computing, checking and answering, beside a permuted control.

Tokens of one step are alike, and so are their experts: steps are what is drawn anew and what changes its label in the
control, never single tokens.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack, cast

import numpy as np
from numpy.typing import NDArray

from gptoss_lab.edits import to_json
from gptoss_lab.experiments.thinking import Question, pace_of_reading
from gptoss_lab.experiments.workload import Limits, Rows, fingerprint, work_through
from gptoss_lab.reply import Reply
from gptoss_lab.segments import Segment, Unit, segments
from gptoss_lab.session import Model
from gptoss_lab.tokenizer import token_text

if TYPE_CHECKING:
    import pandas as pd

Label = Callable[[Segment], str]

_SIGNS_OF_KINDS = {
    "checking": r"\b(wait|check|verify|recheck|double-check|confirm|really|hmm|actually|correct|right\?|mistake)\b",
    "answering": r"\b(answer|together|therefore|thus|hence|in total|final|so the|result is)\b",
    "planning": r"\b(need|let's|let us|let me|we should|we have to|plan|first|approach|strategy|the user|goal|want)\b",
    "computing": r"\d\s*[-+*/×÷=<>%]|[-+*/×÷=<>]\s*\d|\b(write|carry|borrow|add|subtract|multiply|divide|modulo)\b",
}


def kind_of_step(step: Segment) -> str:
    """checking, answering, planning or computing, by the words and signs in a step; "other" where none tells.

    A rule of thumb for English and sums: give a function of your own where it is not good enough. All that stands in
    the final channel is answering.
    """
    if step.channel == "final":
        return "answering"
    return next((kind for kind, sign in _SIGNS_OF_KINDS.items() if re.search(sign, step.text, re.IGNORECASE)), "other")


def routing_by_step(
    model: Model,
    of: Question | Sequence[Reply],
    *,
    label: Label = kind_of_step,
    by: Unit = "sentence",
    n_permutations: int = 1000,
    seed: int = 0,
    **limits: Unpack[Limits],
) -> "pd.DataFrame":
    """What share of the tokens of each kind of step each expert serves.

    of: a reply, several, or a question. by, limits: as for `forced_answer`; the work is done reply by reply, and an
        unfinished table tells of those that have been read. label: the kind of a step. n_permutations: how often steps
        are drawn anew and kinds dealt, by the seed.

    Returns a row for every kind, layer and expert: kind, layer, expert, share (over the experts it sums to k), low and
    high (a 95 % bootstrap interval over steps; NaN for a single one), control_low and control_high (where the share
    lies 95 times in 100 if kinds are dealt to the steps by chance), n (steps). Of many experts, some lie outside by
    chance: one in twenty. Raises ValueError where nothing was said, and as `workload.work_through` does.
    """
    import pandas as pd

    work = _read(model, of, by, limits)
    counted = work.counted
    kinds = np.array([label(step) for step in counted.steps], dtype=object)
    rng = np.random.default_rng(seed)
    tables = []
    for kind in dict.fromkeys(kinds):
        of_kind = kinds == kind
        share = counted.shares(of_kind[None].astype(np.float64))[0]
        dealt = np.stack([rng.permutation(of_kind) for _ in range(n_permutations)]).astype(np.float64)
        low, high = _bootstrap(counted, of_kind, n_permutations, rng)
        control = np.quantile(counted.shares(dealt), [0.025, 0.975], axis=0)
        layer, expert = (axis.ravel() for axis in np.indices(share.shape))
        tables.append(
            pd.DataFrame(
                {
                    "kind": kind,
                    "layer": layer,
                    "expert": expert,
                    "share": share.ravel(),
                    "low": low.ravel(),
                    "high": high.ravel(),
                    "control_low": control[0].ravel(),
                    "control_high": control[1].ravel(),
                    "n": int(of_kind.sum()),
                }
            )
        )
    return work.noted(pd.concat(tables, ignore_index=True))


def routing_by_channel(
    model: Model,
    of: Question | Sequence[Reply],
    *,
    channels: tuple[str, str] = ("analysis", "final"),
    by: Unit = "sentence",
    n_permutations: int = 1000,
    seed: int = 0,
    **limits: Unpack[Limits],
) -> "pd.DataFrame":
    """Whether one channel is routed unlike another: how far apart their experts are, beside a permuted control.

    of, by, limits, n_permutations, seed: as for `routing_by_step`; one short answer tells little, several replies tell
        more.

    Returns a row for every layer: layer; distance, the total variation between the channels' shares of the experts, 0
    to 1; control, its mean if channels are dealt to the steps by chance, control_low and control_high, where it lies
    then 95 times in 100; p, how often it is then as large; n, the steps. Raises ValueError where a channel is empty,
    and as `workload.work_through` does.
    """
    import pandas as pd

    work = _read(model, of, by, limits)
    counted = work.counted
    which = np.array([step.channel or "" for step in counted.steps], dtype=object)
    counted, which = counted.only(np.isin(which, channels)), which[np.isin(which, channels)]
    if lacking := [channel for channel in channels if channel not in which]:
        raise ValueError(f"nothing is said in the {lacking[0]} channel")
    first = which == channels[0]
    rng = np.random.default_rng(seed)
    dealt = np.stack([first, *(rng.permutation(first) for _ in range(n_permutations))]).astype(np.float64)
    apart = np.abs(counted.shares(dealt) - counted.shares(1 - dealt)).sum(axis=2) / (2 * counted.k)  # [draw, layer]
    observed, control = apart[0], apart[1:]
    low, high = np.quantile(control, [0.025, 0.975], axis=0)
    table = pd.DataFrame(
        {
            "layer": np.arange(len(observed)),
            "distance": observed,
            "control": control.mean(axis=0),
            "control_low": low,
            "control_high": high,
            "p": (1 + (control >= observed - 1e-12).sum(axis=0)) / (1 + n_permutations),
            "n": len(which),
        }
    )
    return work.noted(table)


@dataclass(frozen=True)
class _Counted:
    """How many tokens of each step chose each expert."""

    steps: list[Segment]
    counts: NDArray[np.float64]
    """[step, layer, expert]"""
    k: int

    def shares(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """The experts' shares of the tokens of some steps, [draw, layer, expert]. weights: [draw, step]."""
        lengths = np.array([len(step) for step in self.steps], dtype=np.float64)
        flat = weights @ self.counts.reshape(len(self.steps), -1) / (weights @ lengths)[:, None]
        return flat.reshape(len(weights), *self.counts.shape[1:])

    def only(self, where: NDArray[np.bool_]) -> "_Counted":
        return _Counted([self.steps[n] for n in np.flatnonzero(where)], self.counts[where], self.k)


@dataclass(frozen=True)
class _Work:
    """The replies that have been read."""

    counted: _Counted
    rows: Rows
    complete: bool
    asked: str

    def noted(self, table: "pd.DataFrame") -> "pd.DataFrame":
        """The table, with what resuming needs."""
        rows = {str(unit): row for unit, row in self.rows.items()}
        table.attrs |= {"complete": self.complete, "asked": self.asked, "rows": rows}
        return table


def _read(model: Model, of: Question | Sequence[Reply], by: Unit, limits: Limits) -> _Work:
    """Has the model read every reply, and counts."""
    replies = _replies(model, of)
    ids = [[*reply.prompt_tokens, *reply.tokens] for reply in replies]
    n_prompts = [len(reply.prompt_tokens) for reply in replies]
    steps = [_steps(model, reply, by) for reply in replies]
    if not any(steps):
        raise ValueError("nothing is said: there are no steps to look at")
    asked = fingerprint("routing", model.name, to_json(model.edits), ids, n_prompts, by)

    def read(number: int) -> dict[str, Any]:
        trace = model.trace(replies[number])
        chosen = trace.dense_weights() > 0  # [layer, pos, expert]
        return {"counts": [chosen[:, step.start : step.stop].sum(axis=1).tolist() for step in steps[number]]}

    units = {number: len(tokens) for number, tokens in enumerate(ids) if steps[number]}

    def pace() -> float:
        return pace_of_reading(model, ids[0])

    rows, complete = work_through("Routing", units, read, pace, asked, unit="reply", **limits)
    counts = np.array([one for number in sorted(rows) for one in rows[number]["counts"]], dtype=np.float64)
    done = [step for number in sorted(rows) for step in steps[number]]
    return _Work(_Counted(done, counts, model.config.experts_per_token), rows, complete, asked)


def _steps(model: Model, reply: Reply, by: Unit) -> list[Segment]:
    texts = [token_text(model.tokenizer, token) for token in (*reply.prompt_tokens, *reply.tokens)]
    return segments(texts, [*reply.prompt_spans, *reply.spans], by, len(reply.prompt_tokens))


def _replies(model: Model, of: Question | Sequence[Reply]) -> list[Reply]:
    if isinstance(of, Reply):
        return [of]
    if not isinstance(of, str) and all(isinstance(one, Reply) for one in of):
        return cast(list[Reply], list(of))
    return [model.chat(of, "high", temperature=0.0, display=False)]  # type: ignore[arg-type]


def _bootstrap(
    counted: _Counted, of_kind: NDArray[np.bool_], n: int, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Intervals [layer, expert] of the shares of a kind, by drawing its steps anew."""
    members = np.flatnonzero(of_kind)
    if len(members) < 2:
        nothing = np.full(counted.counts.shape[1:], np.nan)
        return nothing, nothing
    weights = np.zeros((n, len(of_kind)))
    weights[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=n)
    low, high = np.quantile(counted.shares(weights), [0.025, 0.975], axis=0)
    return low, high
