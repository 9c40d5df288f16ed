"""Sweeping: the effect of an edit on every expert, or every head, one at a time."""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from gptoss_lab.edits import Conditions, Edit, Edits, ablate_expert, ablate_head, check, describe, flat
from gptoss_lab.experiments.answering import Sampling
from gptoss_lab.experiments.cases import Answers, Cases, Expectations, IsRight, says
from gptoss_lab.experiments.prompts import Prompt, Text, questions_of, texts_of
from gptoss_lab.experiments.workload import duration
from gptoss_lab.session import Model

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["experts", "heads"]
Metric = Literal["kl", "accuracy"]

COLUMNS = ("layer", "index", "effect", "n", "low", "high")
N_RESAMPLES = 2000
"""How often the prompts are drawn anew for an interval."""

_Unit = tuple[int, int]  # layer, and expert or head


def sweep(
    model: Model,
    prompts: Prompt | Sequence[Prompt] | Sequence[tuple[Prompt, str]],
    kind: Kind = "experts",
    metric: Metric = "kl",
    *,
    edit: Callable[..., Edits] | None = None,
    layers: Iterable[int] | None = None,
    budget_tokens: int | None = None,
    budget_seconds: float | None = None,
    resume: "pd.DataFrame | None" = None,
    is_right: IsRight = says,
    temperature: float = 0.0,
    max_new_tokens: int = 256,
    seed: int = 0,
    progress: bool = True,
    **where: Unpack[Conditions],
) -> "pd.DataFrame":
    """What becomes of the model without each of its experts, or heads: a row for each.

    prompts: one or several questions, conversations or replies. With metric "kl", the effect is how far expectations
        move over the replies, in nats a token, KL(unedited || edited); a prompt that is no reply, and does not end in
        the assistant's words, is answered first. With "accuracy", pairs of a prompt and its right answer; the effect is
        how many right replies are lost, as a share of the prompts (-1 to 1).
    is_right: judges a reply by its final text and the right answer; by default the answer must stand in the text, as a
        word of its own.
    kind: "experts" or "heads". layers: which; all of them where not given.
    edit: what is done to each, `ablate_expert` or `ablate_head` where not given; called as edit(index, layer=layer)
        with the conditions of `edits.at` that are given here.
    budget_tokens, budget_seconds: the sweep stops before it would take more. Tokens are those of edited runs; seconds
        are all that pass.
    resume: the table of an earlier, unfinished call with the same arguments: its rows stay, and the rest is done.
    temperature, max_new_tokens, seed: of the replies. The seed also decides the order of the work, so that an
        unfinished table is a fair sample, and draws the intervals.

    Says first what it will take, by a small measured run. Interrupted, it returns what is done.

    Returns columns layer, index, effect (mean over prompts), n (prompts), low and high (a 95 % bootstrap interval over
    prompts; NaN for a single one). `table.attrs["complete"]` says whether it holds all.

    Raises ValueError, before anything runs, for edits that cannot be carried out, prompts that the metric cannot use,
    and a table of another sweep to resume; and for a budget of tokens that does not pay for one row.
    """
    started = time.monotonic()
    edits = _edits(model, kind, edit, layers, where, seed)
    texts = questions_of(model, prompts) if _is_accuracy(metric) else texts_of(model, prompts)
    sampling = Sampling(temperature, seed, max_new_tokens)
    asked = _fingerprint(model, metric, edits, texts, sampling)
    rows = _rows(resume, asked)
    todo = [unit for unit in edits if unit not in rows]
    if todo:
        places = list({change.where for changes in edits.values() for change in changes})
        cases: Cases = (
            Answers.ask(model, texts, is_right, sampling, places)
            if _is_accuracy(metric)
            else Expectations.read(model, texts, sampling, places)
        )
        budget = _Budget(budget_tokens, budget_seconds, started, cases.n_tokens)
        try:
            with model.edit(edits[todo[0]]):
                budget.measure(cases)
            if progress:
                print(f"Sweep over {len(todo)} {kind}, one at a time: {budget.forecast(len(todo))}.")
            for unit in tqdm(todo, unit=kind.removesuffix("s"), disable=not progress):
                if not budget.allows_one_more():
                    break
                with model.edit(edits[unit]):
                    rows[unit] = _row(unit, cases.effects(), seed)
                budget.count()
        except KeyboardInterrupt:
            pass
    if progress and len(rows) < len(edits):
        print(f"{len(rows)} of {len(edits)} {kind} are done. To go on: sweep(..., resume=table).")
    return _table(rows, complete=len(rows) == len(edits), asked=asked)


# What is swept over


def _edits(
    model: Model,
    kind: str,
    edit: Callable[..., Edits] | None,
    layers: Iterable[int] | None,
    where: Conditions,
    seed: int,
) -> dict[_Unit, tuple[Edit, ...]]:
    """Every unit's edit, in the order of the work. Raises ValueError for those that cannot be carried out."""
    _check_one_of("kind", kind, ("experts", "heads"))
    edit = edit or (ablate_expert if kind == "experts" else ablate_head)
    count = model.config.n_experts if kind == "experts" else model.config.n_heads
    wanted = range(model.config.n_layers) if layers is None else layers
    units = [(layer, index) for layer in wanted for index in range(count)]
    edits = {units[n]: flat(edit(units[n][1], layer=units[n][0], **where)) for n in _shuffled(len(units), seed)}
    for changes in edits.values():
        check((*model.edits, *changes), model.config)
    return edits


def _is_accuracy(metric: str) -> bool:
    _check_one_of("metric", metric, ("kl", "accuracy"))
    return metric == "accuracy"


def _shuffled(n: int, seed: int) -> list[int]:
    order: list[int] = np.random.default_rng(seed).permutation(n).tolist()
    return order


def _check_one_of(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is one of {', '.join(choices)}; got {value!r}")


# What it may take


@dataclass
class _Budget:
    """What a sweep may take, and what it takes."""

    tokens: int | None
    seconds: float | None
    started: float
    tokens_each: int
    """Tokens that one expert or head takes."""
    seconds_each: float = 0.0
    begun: float = 0.0
    done: int = 0

    def __post_init__(self) -> None:
        if self.tokens is not None and self.tokens < self.tokens_each:
            raise ValueError(
                f"budget_tokens={self.tokens} does not pay for a single row, which takes {self.tokens_each}"
            )

    def measure(self, cases: Cases) -> None:
        """Runs the shortest case under the active edits, to know how long all of them take."""
        alone = min((cases.only(number) for number in range(len(cases))), key=lambda case: case.n_tokens)
        before = time.monotonic()
        alone.effects()
        self.seconds_each = (time.monotonic() - before) * self.tokens_each / alone.n_tokens
        self.begun = time.monotonic()

    def count(self) -> None:
        """One more is done."""
        self.done += 1
        self.seconds_each = (time.monotonic() - self.begun) / self.done

    def allows_one_more(self) -> bool:
        return self.allows(self.done + 1)

    def allows(self, n: int) -> bool:
        """Whether n in all can be paid for."""
        seconds = time.monotonic() - self.started + (n - self.done) * self.seconds_each
        enough_tokens = self.tokens is None or n * self.tokens_each <= self.tokens
        return enough_tokens and (self.seconds is None or seconds <= self.seconds)

    def forecast(self, n: int) -> str:
        """What n of them will take, in words."""
        affordable = next((paid for paid in range(n, 0, -1) if self.allows(paid)), 0)
        tokens = f"about {n * self.tokens_each:,} tokens, {duration(n * self.seconds_each)}"
        return tokens if affordable == n else f"{tokens}; the budget is enough for {affordable} of them"


# The table

_Row = dict[str, Any]


def _row(unit: _Unit, effects: NDArray[np.float64], seed: int) -> _Row:
    """Mean and bootstrap interval of what an edit did to each prompt."""
    low = high = np.nan
    if len(effects) > 1:
        draws = np.random.default_rng([seed, *unit]).integers(len(effects), size=(N_RESAMPLES, len(effects)))
        low, high = np.quantile(effects[draws].mean(axis=1), [0.025, 0.975])
    return dict(zip(COLUMNS, (*unit, effects.mean(), len(effects), low, high), strict=True))


def _table(rows: dict[_Unit, _Row], complete: bool, asked: str) -> "pd.DataFrame":
    import pandas as pd

    table = pd.DataFrame([rows[unit] for unit in sorted(rows)], columns=list(COLUMNS))
    table.attrs |= {"complete": complete, "sweep": asked}
    return table


def _rows(table: "pd.DataFrame | None", asked: str) -> dict[_Unit, _Row]:
    """The rows of an unfinished table. Raises ValueError where it is another sweep's."""
    if table is None:
        return {}
    if set(COLUMNS) - set(table.columns) or table.attrs.get("sweep", asked) != asked:
        raise ValueError("the table to resume comes from a sweep with other arguments: resume with the same ones")
    return {(int(row["layer"]), int(row["index"])): row for row in table[list(COLUMNS)].to_dict("records")}


def _fingerprint(
    model: Model, metric: str, edits: dict[_Unit, tuple[Edit, ...]], texts: Sequence[Text], sampling: Sampling
) -> str:
    """Tells one sweep from another, by all that its numbers depend on."""
    parts = [
        model.name,
        describe(model.edits),
        metric,
        {str(unit): describe(changes) for unit, changes in sorted(edits.items())},
        [asdict(text) for text in texts],
        asdict(sampling),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
