"""Receiver heads: heads by which few steps are looked at from everywhere later.

Vertical attention scores and their kurtosis, from "Thought Anchors" (Bogdan, Macar, Nanda and Conmy 2025,
arXiv 2506.19143), section 4: how much attention a step receives from later ones; a head in which a few steps receive
nearly all of it has a high kurtosis. A gpt-oss head may also rest on its sink: how much it does is told, and what it
gives to tokens can be seen as shares of the rest.
"""

import math
from base64 import b64decode, b64encode
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gptoss_lab.config import ModelConfig
from gptoss_lab.experiments.intervals import N_RESAMPLES
from gptoss_lab.experiments.thinking import Question, Thinking, pace_of_reading, setting_of, thinking_of
from gptoss_lab.experiments.workload import Limits, Rows, fingerprint, work_through
from gptoss_lab.hooks import HookPoint
from gptoss_lab.segments import Unit
from gptoss_lab.session import Model

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("layer", "head", "kurtosis", "low", "high", "sink", "step", "text", "score", "n")


def receiver_heads(
    model: Model,
    of: Question,
    *,
    by: Unit = "sentence",
    distance: int = 1,
    without_sink: bool = False,
    seed: int = 0,
    **limits: Unpack[Limits],
) -> "pd.DataFrame":
    """How unevenly each head's attention from later steps falls on the steps of a thought.

    of, by, limits: as for `forced_answer`. distance: from how many steps on a later one counts; the paper takes 4,
        thoughts of few steps need less. without_sink: whether attention is taken as a share of what the sink leaves.

    Returns columns layer, head; kurtosis of the steps' vertical scores (excess; NaN where fewer than four have one, or
    all the same), low and high, a 95 % bootstrap interval over the later steps; sink, the mean mass that the sink takes
    from the thought's tokens; step and text, the one that receives most, and its score, the mean attention that a token
    of it gets from a later token that can see it; n, the steps with a score. The highest kurtosis comes first. An
    unfinished table tells of the attention from the steps that have been read.

    A high kurtosis says where a head looks, not that it matters: `suppress` and `edits.ablate_head` ask that. Raises
    ValueError for a reply without a thought, and as `workload.work_through` does.
    """
    thinking = thinking_of(model, of, by)
    asked = fingerprint("receiver_heads", *setting_of(model, thinking), distance, without_sink, seed)
    readers, cache = _readers(thinking), model.transformer.new_cache()
    ends = [0, *(reader.stop for reader in readers.values())]

    def look_back(number: int) -> dict[str, Any]:
        """The attention that one step gives to those before it, read from where the reading has come to."""
        begin = ends[number - 1]
        if cache.length < begin:
            model.transformer(thinking.ids[cache.length : begin], cache, last_only=True)
        given = _Given(model.config, thinking, readers[number], begin, without_sink)
        with model.hooks([(_POINTS, given.take)]):
            model.transformer(thinking.ids[begin : ends[number]], cache, last_only=True)
        return {"mean": _packed(given.mean), "sink": _packed(given.sink)}

    units = {number: stop - start for number, (start, stop) in enumerate(pairwise(ends), start=1)}
    rows, complete = work_through(
        "Attention to earlier steps", units, look_back, lambda: pace_of_reading(model, thinking.ids), asked, **limits
    )
    return _table(rows, model.config, thinking, readers, distance, seed, complete, asked)


_POINTS = ["blocks.*.attn.hook_sink", "blocks.*.attn.hook_pattern"]  # in the order in which they fire


@dataclass(frozen=True)
class _Reader:
    """A step that looks back, or the answer, which does so too: its tokens."""

    start: int
    stop: int


def _readers(thinking: Thinking) -> dict[int, _Reader]:
    """By number; the answer counts as the step after the last."""
    found = [_Reader(step.start, step.stop) for step in thinking.steps]
    if thinking.answer_start < len(thinking.ids):
        found.append(_Reader(thinking.answer_start, len(thinking.ids)))
    return dict(enumerate(found, start=1))


class _Given:
    """What one step's tokens give to the steps up to it, in every layer and head: filled while they run."""

    def __init__(self, config: ModelConfig, thinking: Thinking, reader: _Reader, begin: int, without_sink: bool):
        steps = [step for step in thinking.steps if step.start <= reader.start]
        self.mean = np.zeros((config.n_layers, config.n_heads, len(steps)), dtype=np.float32)
        """[layer, head, step]: of a token to a token of a step, over pairs that can see each other."""
        self.sink = np.zeros((config.n_layers, config.n_heads), dtype=np.float32)
        """[layer, head]: the mass that sinks take, summed over the tokens."""
        self._config, self._own, self._without_sink = config, slice(reader.start - begin, None), without_sink
        self._member = torch.zeros(reader.stop, len(steps))  # [k_pos, step]
        for number, step in enumerate(steps):
            self._member[step.start : step.stop, number] = 1
        self._behind = torch.arange(reader.start, reader.stop)[:, None] - torch.arange(reader.stop)
        self._left = torch.ones(())

    def take(self, tensor: Tensor, hook: HookPoint) -> None:
        assert hook.layer is not None
        own = tensor[0, :, self._own].detach().cpu()
        if hook.name.endswith("hook_sink"):  # [head, q_pos]
            self.sink[hook.layer] = own.sum(dim=1)
            self._left = (1 - own).clamp_min(1e-9)[..., None] if self._without_sink else torch.ones(())
            return
        window = self._config.window(hook.layer) or len(self._member)
        visible = ((self._behind >= 0) & (self._behind < window)).float()
        pairs = (visible @ self._member).sum(dim=0)  # [step]
        self.mean[hook.layer] = ((own / self._left) @ self._member).sum(dim=1) / pairs.clamp_min(1)


# The table


@dataclass(frozen=True)
class _Layer:
    """Attention between steps in one layer."""

    mean: NDArray[np.float64]
    """[head, later step, step]: of a token of the one to a token of the other, over pairs that can see each other."""
    counts: NDArray[np.bool_]
    """[later step, step]: whether there is such a pair, and far enough apart."""
    sink: NDArray[np.float64]
    """[head]"""


def _table(
    rows: Rows,
    config: ModelConfig,
    thinking: Thinking,
    readers: dict[int, _Reader],
    distance: int,
    seed: int,
    complete: bool,
    asked: str,
) -> "pd.DataFrame":
    import pandas as pd

    found, shape = [], (config.n_layers, config.n_heads, -1)
    means = {number: _unpacked(rows[number]["mean"], shape) for number in sorted(rows)}
    sinks = {number: _unpacked(rows[number]["sink"], shape)[..., 0] for number in sorted(rows)}
    for layer in range(config.n_layers):
        attention = _layer(means, sinks, layer, config.window(layer), thinking, readers, distance)
        found += [_row(layer, head, attention, thinking, seed) for head in range(config.n_heads)]
    table = pd.DataFrame(found, columns=list(COLUMNS))
    table = table.sort_values("kurtosis", ascending=False, kind="stable", ignore_index=True)
    table.attrs |= {"complete": complete, "asked": asked, "rows": {str(unit): row for unit, row in rows.items()}}
    return table


def _layer(
    means: dict[int, NDArray[np.float32]],
    sinks: dict[int, NDArray[np.float32]],
    layer: int,
    window: int | None,
    thinking: Thinking,
    readers: dict[int, _Reader],
    distance: int,
) -> _Layer:
    """means, sinks: as `_Given` has them, of the steps that have been read."""
    mean = np.zeros((len(sinks[min(sinks)][layer]), len(means), len(thinking.steps)))
    counts = np.zeros(mean.shape[1:], dtype=np.bool_)
    for place, number in enumerate(means):
        given = means[number][layer]
        mean[:, place, : given.shape[1]] = given
        for step in thinking.steps[: given.shape[1]]:
            nearest = max(readers[number].start - (step.stop - 1), 0)
            counts[place, step.number - 1] = number - step.number >= distance and nearest < (window or math.inf)
    of_thought = [number for number in means if number <= len(thinking.steps)]
    n_tokens = sum(len(thinking.steps[number - 1]) for number in of_thought)
    sink = np.stack([sinks[number][layer] for number in of_thought]).astype(np.float64).sum(axis=0) / n_tokens
    return _Layer(mean, counts, sink)


def _packed(array: NDArray[np.float32]) -> str:
    """As text, which a table's attributes can be written to a file with."""
    return b64encode(array.tobytes()).decode()


def _unpacked(text: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    return np.frombuffer(b64decode(text), dtype=np.float32).reshape(shape)


def _row(layer: int, head: int, attention: _Layer, thinking: Thinking, seed: int) -> dict[str, object]:
    n_later = len(attention.counts)
    whole = np.ones((1, n_later))
    scores = _vertical(whole, attention.mean[head], attention.counts)[0]
    draws = np.random.default_rng([seed, layer, head]).multinomial(n_later, whole[0] / n_later, size=N_RESAMPLES)
    kurtoses = _kurtosis(_vertical(draws.astype(np.float64), attention.mean[head], attention.counts))
    known = kurtoses[~np.isnan(kurtoses)]
    low, high = np.quantile(known, [0.025, 0.975]) if len(known) > N_RESAMPLES / 2 else (math.nan, math.nan)
    best = int(np.nanargmax(scores)) if not np.isnan(scores).all() else None
    values = (
        layer,
        head,
        float(_kurtosis(scores[None])[0]),
        float(low),
        float(high),
        float(attention.sink[head]),
        None if best is None else best + 1,
        None if best is None else thinking.steps[best].text,
        math.nan if best is None else float(scores[best]),
        int((~np.isnan(scores)).sum()),
    )
    return dict(zip(COLUMNS, values, strict=True))


def _vertical(weights: NDArray, mean: NDArray, counts: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Each step's mean attention from later ones, [draw, step]; NaN where none can see it. weights: [draw, later step],
    how often each later step counts.
    """
    total = weights @ counts
    return np.where(total > 0, weights @ (mean * counts) / np.maximum(total, 1), np.nan)


def _kurtosis(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Excess kurtosis of each row's known scores, [draw]; NaN for fewer than four, and where they are all the same."""
    known = ~np.isnan(scores)
    n = known.sum(axis=1)
    filled = np.where(known, scores, 0.0)
    centred = np.where(known, filled - (filled.sum(axis=1) / np.maximum(n, 1))[:, None], 0.0)
    second, fourth = ((centred**power).sum(axis=1) / np.maximum(n, 1) for power in (2, 4))
    enough = (n >= 4) & (second > 1e-16)
    return np.where(enough, fourth / np.maximum(second, 1e-30) ** 2 - 3, np.nan)
