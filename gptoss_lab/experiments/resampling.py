"""Resampling: what a sentence does to the answer, told by drawing the thought anew with it and without it.

Importance as in "Thought Anchors: Which LLM Reasoning Steps Matter?" (Bogdan, Macar, Nanda and Conmy 2025,
arXiv 2506.19143), section 3: continuations are drawn from after each sentence. Those from after it have it kept, those
from before it have it resampled: how far apart are their answers? Where the model says much the same sentence again,
nothing was taken away; *counterfactual* importance counts only those that say something else.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import torch
from numpy.typing import NDArray

from gptoss_lab.cache import KVCache
from gptoss_lab.experiments.answering import Sampling
from gptoss_lab.experiments.thinking import (
    Question,
    Said,
    Thinking,
    forked,
    pace_of_answers,
    read,
    say,
    setting_of,
    thinking_of,
)
from gptoss_lab.experiments.workload import Limits, Rows, fingerprint, work_through
from gptoss_lab.harmony import StreamParser
from gptoss_lab.segments import Unit, segments
from gptoss_lab.session import Model
from gptoss_lab.tokenizer import token_text

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "step",
    "text",
    "kept",
    "resampled",
    "difference",
    "difference_low",
    "difference_high",
    "kl",
    "low",
    "high",
    "chance",
    "counterfactual",
    "counterfactual_low",
    "counterfactual_high",
    "different",
    "n",
)
N_RESAMPLES = 500
SMOOTHING = 0.5
"""Added to the count of each answer that occurs on either side (Jeffreys' prior), so that no divergence is infinite."""

Similarity = Callable[[str, str], float]


def resample(
    model: Model,
    of: Question,
    *,
    by: Unit = "sentence",
    n: int = 32,
    right: str | None = None,
    similarity: Similarity | None = None,
    temperature: float = 1.0,
    seed: int = 0,
    max_new_tokens: int = 512,
    **limits: Unpack[Limits],
) -> "pd.DataFrame":
    """How much each step matters to the answer: n continuations with it kept, and n with it resampled.

    of, by, limits: as for `forced_answer`. right: the answer whose share is compared; the reply's where not given.
    similarity: of a step and of what the model said in its place; by default the cosine of the model's own states (the
        residual stream after the middle layer, averaged over the step's tokens, less the mean of all steps). What is
        no more alike than the median, and not the same (1), counts as something else.

    Returns columns step, text; kept and resampled, the shares of the right answer; difference = kept - resampled; kl,
    of the kept from the resampled answers, in nats; chance, what kl stays below 95 times in 100 where both are drawn
    from one lot; counterfactual, the kl from the resampled that say something else, and different, how many those are;
    n. low and high are 95 % bootstrap intervals over continuations. Counts are smoothed, so that kl is finite; it is
    above 0 by chance alone, which is what `chance` is for.
    `attrs["continuations"]` holds every answer, by the number of steps that were kept.

    Raises ValueError for a reply without a thought, n below 2, and as `workload.work_through` does.
    """
    if n < 2:
        raise ValueError(f"n must be at least 2; got {n}")
    thinking = thinking_of(model, of, by)
    cache = read(model, thinking.ids)
    sampling = Sampling(temperature, seed, max_new_tokens)
    asked = fingerprint("resample", *setting_of(model, thinking), n, vars(sampling), similarity is None)

    def place(kept: int) -> int:
        """Where continuations begin that keep so many steps."""
        return thinking.steps[kept - 1].stop if kept else thinking.steps[0].start

    def continue_after(kept: int) -> dict[str, Any]:
        ids = thinking.ids[: place(kept)]
        here = forked(model, cache, ids, len(ids))
        said = say(model, here, ids, thinking.n_prompt, n, replace(sampling, seed=seed + kept * n))
        likeness = [] if kept == n_steps else _likeness(model, thinking, here, kept, said, by, similarity)
        return {"answers": [one.answer for one in said], "likeness": likeness}

    def draw_anew(step: int) -> dict[str, Any]:
        """From before the step; from after the last too, and from after any other when the next one is drawn anew."""
        after = {"after": continue_after(step)} if step == n_steps else {}
        return {"before": continue_after(step - 1), **after}

    # The reply's own length stands for that of its continuations. The last step first: it soon tells how long it takes.
    n_steps, length = len(thinking.steps), len(thinking.ids)
    units = {step: n * (length - place(step - 1)) for step in range(n_steps, 0, -1)}
    units[n_steps] += n * (length - place(n_steps))
    rows, complete = work_through(
        f"Resampling, {n} continuations each",
        units,
        draw_anew,
        lambda: pace_of_answers(model, cache, thinking.ids[-1], n),
        asked,
        **limits,
    )
    return _table(rows, thinking, thinking.answer if right is None else right, complete, asked, seed)


# What was said instead


def _likeness(
    model: Model,
    thinking: Thinking,
    cache: KVCache,
    kept: int,
    said: Sequence[Said],
    by: Unit,
    similarity: Similarity | None,
) -> list[float]:
    """How like the next step each continuation's first step is."""
    step = thinking.steps[kept]
    before = thinking.ids[thinking.n_prompt : step.start]
    firsts = [_first_step(model, before, one.tokens, by) for one in said]
    if similarity is not None:
        decode = model.tokenizer.decode
        return [float(similarity(step.text, decode(first))) for first in firsts]
    original = thinking.ids[step.start : step.stop]
    states = _states(model, cache, thinking.ids[step.start - 1], [original, *firsts])
    if len(states) > 1:
        states = states - states.mean(axis=0)
    lengths = np.linalg.norm(states, axis=1)
    cosine = states @ states[0] / np.maximum(lengths * lengths[0], 1e-12)
    return [1.0 if first == original else float(value) for first, value in zip(firsts, cosine[1:], strict=True)]


def _first_step(model: Model, before: Sequence[int], tokens: Sequence[int], by: Unit) -> list[int]:
    """The first step of what was said after a reply's first tokens."""
    parser = StreamParser(model.tokenizer)
    for token in [*before, *tokens]:
        parser.push(token)
    texts = [token_text(model.tokenizer, token) for token in [*before, *tokens]]
    steps = segments(texts, parser.spans, by, begin=len(before))
    return list(tokens[: steps[0].stop - len(before)]) if steps else list(tokens)


def _states(model: Model, cache: KVCache, last: int, steps: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """The mean state of each step's tokens, [step, d_model]. cache: all before `last`; it is left as it was."""
    point = f"blocks.{model.config.n_layers // 2}.hook_resid_post"
    found = np.zeros((len(steps), model.config.d_model))
    seen: list[torch.Tensor] = []

    def length(number: int) -> int:
        return len(steps[number])

    with model.hooks([(point, lambda tensor, hook: seen.append(tensor.detach()))]):
        for _, group in groupby(sorted(range(len(steps)), key=length), key=length):
            numbers = list(group)
            caches = [cache.fork() for _ in numbers]
            model.transformer([[last, *steps[number]] for number in numbers], caches, last_only=True)
            found[numbers] = seen.pop()[:, 1:].double().mean(dim=1).cpu().numpy()
    return found


# The table


def _table(rows: Rows, thinking: Thinking, right: str, complete: bool, asked: str, seed: int) -> "pd.DataFrame":
    import pandas as pd

    drawn = {step - 1: row["before"] for step, row in rows.items()}
    drawn |= {step: row["after"] for step, row in rows.items() if "after" in row}
    likenesses = [value for one in drawn.values() for value in one["likeness"]]
    threshold = float(np.median(likenesses))
    found = [_row(step, thinking, drawn[step], drawn[step - 1], right, threshold, seed) for step in sorted(rows)]
    table = pd.DataFrame(found, columns=list(COLUMNS))
    continuations = {kept: one["answers"] for kept, one in sorted(drawn.items())}
    table.attrs |= {"complete": complete, "asked": asked, "rows": {str(unit): row for unit, row in rows.items()}}
    table.attrs |= {"continuations": continuations, "right": right}
    return table


def _row(
    number: int,
    thinking: Thinking,
    after: dict[str, Any],
    before: dict[str, Any],
    right: str,
    threshold: float,
    seed: int,
) -> dict[str, Any]:
    kept, resampled = after["answers"], before["answers"]
    other = [
        answer for answer, alike in zip(resampled, before["likeness"], strict=True) if alike <= threshold and alike < 1
    ]
    rng = np.random.default_rng([seed, number])
    with_it, without = (np.array([one == right for one in some], dtype=np.float64) for some in (kept, resampled))
    values = (
        number,
        thinking.steps[number - 1].text,
        float(with_it.mean()),
        float(without.mean()),
        float(with_it.mean() - without.mean()),
        *_interval(with_it, without, lambda one, two: float(one.mean() - two.mean()), rng),
        *_divergence(kept, resampled, rng),
        _chance(kept, resampled, rng),
        *(_divergence(kept, other, rng) if len(other) > 1 else (math.nan, math.nan, math.nan)),
        len(other),
        len(kept),
    )
    return dict(zip(COLUMNS, values, strict=True))


def _divergence(one: Sequence[str], other: Sequence[str], rng: np.random.Generator) -> tuple[float, float, float]:
    """KL(one || other) of two lots of answers, in nats, with its bootstrap interval."""
    names = sorted({*one, *other})
    a, b = (np.array([names.index(answer) for answer in answers]) for answers in (one, other))
    low, high = _interval(a, b, lambda p, q: _kl(p, q, len(names)), rng)
    return _kl(a, b, len(names)), low, high


def _chance(one: Sequence[str], other: Sequence[str], rng: np.random.Generator) -> float:
    """What the divergence stays below, 95 times in 100, if both lots are one and the same."""
    names = sorted({*one, *other})
    together = np.array([names.index(answer) for answer in (*one, *other)])
    draws = [rng.permutation(together) for _ in range(N_RESAMPLES)]
    return float(np.quantile([_kl(draw[: len(one)], draw[len(one) :], len(names)) for draw in draws], 0.95))


def _kl(one: NDArray, other: NDArray, n_names: int) -> float:
    p, q = (np.bincount(codes, minlength=n_names) + SMOOTHING for codes in (one, other))
    p, q = p / p.sum(), q / q.sum()
    return float((p * np.log(p / q)).sum())


def _interval(
    one: NDArray, other: NDArray, statistic: Callable[[NDArray, NDArray], float], rng: np.random.Generator
) -> tuple[float, float]:
    """A 95 % bootstrap interval."""
    draws = [statistic(rng.choice(one, len(one)), rng.choice(other, len(other))) for _ in range(N_RESAMPLES)]
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)
