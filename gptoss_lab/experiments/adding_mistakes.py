"""Mistakes: one step is made wrong. Does the answer follow what it says now?

Adding mistakes, from Lanham et al. 2023, "Measuring Faithfulness in Chain-of-Thought Reasoning" (arXiv 2307.13702),
section 2.4: thinking that is used leads where the mistake leads; thinking that is not leads to the old answer.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Unpack

from gptoss_lab.experiments.answering import Sampling
from gptoss_lab.experiments.corruption import Kind, corrupt
from gptoss_lab.experiments.early_answering import forced
from gptoss_lab.experiments.intervals import wilson
from gptoss_lab.experiments.thinking import (
    Question,
    Thinking,
    forked,
    pace_of_answers,
    read,
    say,
    setting_of,
    thinking_of,
)
from gptoss_lab.experiments.workload import Limits, fingerprint, table_of, work_through
from gptoss_lab.segments import Segment, Unit
from gptoss_lab.session import Model

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "step",
    "text",
    "mistake",
    "answer",
    "changed",
    "low",
    "high",
    "control",
    "implied",
    "followed",
    "followed_low",
    "followed_high",
    "n",
)


def mistakes(
    model: Model,
    of: Question,
    *,
    by: Unit = "sentence",
    steps: Iterable[int] | None = None,
    kind: Kind | None = None,
    texts: Mapping[int, str] | None = None,
    implied: Callable[[str], str | None] | None = None,
    rest: Literal["anew", "keep"] = "anew",
    samples: int = 1,
    temperature: float = 0.0,
    seed: int = 0,
    max_new_tokens: int = 512,
    **limits: Unpack[Limits],
) -> "pd.DataFrame":
    """What the model answers after a mistake in each step, one at a time.

    of, by, limits: as for `forced_answer`. steps: by number; all in which there is something to get wrong where not
        given.
    kind: "digit", "sign" or "name"; the first that a step has where not given. texts: what to put in the place of
        steps, by their number, instead.
    implied: of the thought up to the mistake and with it, the answer that it leads to; None where nobody can say.
    rest: what followed the step is generated "anew"; or kept as it was ("keep"), and the answer alone is generated.
    samples, temperature, seed, max_new_tokens: of the continuations after each mistake.

    Returns columns step, text, mistake (the step as it is now), answer (the most frequent), changed (the share of
    answers that are not the reply's) with its interval low to high, control (that share where the step is left as it
    was), implied, followed (the share of answers that are what is implied; NaN where nothing is) with its interval, n.
    Intervals are Wilson's, 95 %; at temperature 0 one continuation stands for all.

    Raises ValueError for a reply without a thought or an answer, for steps that there are not, and where there is
    nothing to get wrong.
    """
    thinking = thinking_of(model, of, by)
    if not thinking.answer:
        raise ValueError("the reply has no answer that could change: nothing stands in its final channel")
    wrong = _mistakes(thinking, steps, kind, texts, seed)
    cache = read(model, thinking.ids)
    sampling = Sampling(temperature, seed, max_new_tokens)
    n = 1 if temperature == 0 else samples
    asked = fingerprint("mistakes", *setting_of(model, thinking), wrong, rest, n, vars(sampling), implied is None)

    def answers(step: Segment, text: str) -> list[str]:
        """After a step with this text."""
        middle = model.tokenizer.encode_ordinary(text) if text != step.text else thinking.ids[step.start : step.stop]
        following = _kept(model, thinking, step) if rest == "keep" else []
        ids = [*thinking.ids[: step.start], *middle, *following]
        own = replace(sampling, seed=seed + step.number * n)
        here = forked(model, cache, ids, step.stop if text == step.text else step.start)
        return [said.answer for said in say(model, here, ids, thinking.n_prompt, n, own)]

    def try_mistake(number: int) -> dict[str, Any]:
        step, text = thinking.steps[number - 1], wrong[number]
        found, before = answers(step, text), answers(step, step.text)
        changed = sum(answer != thinking.answer for answer in found)
        thought = "".join(earlier.text for earlier in thinking.steps[: number - 1])
        leads_to = implied(thought + text) if implied else None
        followed = sum(answer == leads_to for answer in found)
        values = (
            number,
            step.text,
            text,
            max(found, key=found.count),
            changed / n,
            *wilson(changed, n),
            sum(answer != thinking.answer for answer in before) / n,
            leads_to,
            math.nan if leads_to is None else followed / n,
            *((math.nan, math.nan) if leads_to is None else wilson(followed, n)),
            n,
        )
        return dict(zip(COLUMNS, values, strict=True))

    units = {number: 2 * n * _tokens_after(thinking, thinking.steps[number - 1], rest) for number in wrong}
    rows, complete = work_through(
        "Mistakes", units, try_mistake, lambda: pace_of_answers(model, cache, thinking.ids[-1], n), asked, **limits
    )
    return table_of(rows, COLUMNS, complete, asked)


def _mistakes(
    thinking: Thinking, steps: Iterable[int] | None, kind: Kind | None, texts: Mapping[int, str] | None, seed: int
) -> dict[int, str]:
    """The text of each step that is made wrong, by its number."""
    numbers = range(1, len(thinking.steps) + 1)
    wanted = sorted(texts if texts is not None and steps is None else numbers if steps is None else steps)
    if unknown := [number for number in wanted if number not in numbers]:
        raise ValueError(f"there is no step {unknown[0]}; the thought's steps are 1 to {len(numbers)}")
    found = {}
    for number in wanted:
        text = (texts or {}).get(number) or corrupt(thinking.steps[number - 1].text, kind, seed + number)
        if text is not None:
            found[number] = text
        elif steps is not None:
            raise ValueError(f"there is nothing to get wrong in step {number}, {thinking.steps[number - 1].text!r}")
    if not found:
        raise ValueError(f"there is no {kind or 'digit, sign or name'} to get wrong in any step: give texts")
    return found


def _kept(model: Model, thinking: Thinking, step: Segment) -> list[int]:
    """What follows a step up to where the answer begins."""
    if thinking.answer_ids:
        return thinking.ids[step.stop : thinking.answer_start]
    at, closing = forced(thinking.ids, thinking.n_prompt, thinking.steps[-1], model.tokenizer)
    return [*thinking.ids[step.stop : at], *closing]


def _tokens_after(thinking: Thinking, step: Segment, rest: str) -> int:
    """About how many are run for one continuation."""
    return len(thinking.ids) - step.start + (0 if rest == "keep" else 1)
