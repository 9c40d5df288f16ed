"""Working through an experiment: what it will take is said first, a budget is kept, what is done is never lost."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from tqdm.auto import tqdm

if TYPE_CHECKING:
    import pandas as pd

Rows = dict[int, dict[str, Any]]
"""What was found, by the number of the unit of work."""


class Limits(TypedDict, total=False):
    """What every experiment on a thought takes.

    budget_tokens, budget_seconds: it stops before it would take more; a question that is answered first is not counted.
    resume: the table of an earlier, unfinished call with the same arguments; the rest is done. progress: whether to say
    what it will take, and show a bar.
    """

    budget_tokens: int | None
    budget_seconds: float | None
    resume: "pd.DataFrame | None"
    progress: bool


def work_through(
    what: str,
    units: Mapping[int, int],
    do: Callable[[int], dict[str, Any]],
    pace: Callable[[], float],
    asked: str,
    *,
    unit: str = "step",
    budget_tokens: int | None = None,
    budget_seconds: float | None = None,
    resume: "pd.DataFrame | None" = None,
    progress: bool = True,
) -> tuple[Rows, bool]:
    """Does every unit of work that is not done yet, or until an interrupt. Returns what is done; whether that is all.

    what: what is done, for what is said beforehand: "Forced answers". units: the tokens that each will take, in the
    order of the work. do: does one; where its row says how many tokens were "spent" after all, those are counted. pace:
    seconds a token takes, measured. asked: the fingerprint of the call. unit: what a unit of work is called.

    Raises ValueError for a table of another call to resume, and for a budget that does not pay for the first unit: so
    there is always something to return. An interrupt before anything is done is passed on.
    """
    started = time.monotonic()
    rows = rows_of(resume, asked)
    todo = {number: tokens for number, tokens in units.items() if number not in rows}
    if todo and budget_tokens is not None and budget_tokens < next(iter(todo.values())):
        raise ValueError(
            f"budget_tokens={budget_tokens} does not pay for the first {unit}: {next(iter(todo.values()))}"
        )
    try:
        seconds_each = pace() if todo else 0.0
        if progress and todo:
            print(f"{what}, {_many(len(todo), unit)}: {_forecast(todo, seconds_each, budget_tokens, budget_seconds)}.")
        spent, began = 0, time.monotonic()
        for number, tokens in tqdm(todo.items(), unit=unit, disable=not progress):
            passed = time.monotonic() - started
            if not _affordable(spent + tokens, passed + tokens * seconds_each, budget_tokens, budget_seconds):
                break
            rows[number] = do(number)
            spent += rows[number].get("spent", tokens)
            seconds_each = (time.monotonic() - began) / max(spent, 1)
        if todo and not rows:
            raise ValueError(
                f"budget_seconds={budget_seconds} does not pay for the first {unit}, which takes about "
                f"{duration(next(iter(todo.values())) * seconds_each)} after {duration(passed)} of preparing"
            )
    except KeyboardInterrupt:
        if not rows:
            raise
    complete = len(rows) == len(units)
    if progress and not complete:
        print(f"{len(rows)} of {_many(len(units), unit)} done. To go on: the same call with resume=table.")
    return rows, complete


def table_of(rows: Rows, columns: tuple[str, ...], complete: bool, asked: str) -> "pd.DataFrame":
    """The table of an experiment: a unit's row, or all its "rows", in their order. attrs: "complete", and what `resume`
    needs.
    """
    import pandas as pd

    found = [row for unit in sorted(rows) for row in rows[unit].get("rows", [rows[unit]])]
    table = pd.DataFrame(found, columns=list(columns))
    table.attrs |= {"complete": complete, "asked": asked, "rows": {str(unit): row for unit, row in rows.items()}}
    return table


def rows_of(table: "pd.DataFrame | None", asked: str) -> Rows:
    """What an unfinished table holds. Raises ValueError where it is another call's."""
    if table is None:
        return {}
    if table.attrs.get("asked") != asked:
        raise ValueError("the table to resume comes from a call with other arguments: resume with the same ones")
    return {int(unit): row for unit, row in table.attrs["rows"].items()}


def fingerprint(*parts: Any) -> str:
    """Tells one call from another, by all that its numbers depend on."""
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()


def duration(seconds: float) -> str:
    """In words."""
    for size, name in ((3600, "hours"), (60, "minutes")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {name}"
    if seconds < 0.1:
        return "less than 0.1 seconds"
    return f"{seconds:.0f} seconds" if seconds >= 2 else f"{seconds:.1f} seconds"


def _many(n: int, unit: str) -> str:
    if n == 1:
        return f"1 {unit}"
    return f"{n} {unit.removesuffix('y')}ies" if unit.endswith("y") else f"{n} {unit}s"


def _affordable(tokens: int, seconds: float, budget_tokens: int | None, budget_seconds: float | None) -> bool:
    enough_tokens = budget_tokens is None or tokens <= budget_tokens
    return enough_tokens and (budget_seconds is None or seconds <= budget_seconds)


def _forecast(
    todo: Mapping[int, int], seconds_each: float, budget_tokens: int | None, budget_seconds: float | None
) -> str:
    total, paid, spent = sum(todo.values()), 0, 0
    for tokens in todo.values():
        spent += tokens
        paid += _affordable(spent, spent * seconds_each, budget_tokens, budget_seconds)
    words = f"about {total:,} tokens, {duration(total * seconds_each)}"
    return words if paid == len(todo) else f"{words}; the budget is enough for {paid} of them"
