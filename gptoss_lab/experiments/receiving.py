"""Receiver heads: heads by which few steps are looked at from everywhere later.

Vertical attention scores and their kurtosis, from "Thought Anchors" (Bogdan, Macar, Nanda and Conmy 2025,
arXiv 2506.19143), section 4: how much attention a step receives from later ones; a head in which a few steps receive
nearly all of it has a high kurtosis. A gpt-oss head may also rest on its sink: how much it does is told, and what it
gives to tokens can be seen as shares of the rest.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gptoss_lab.experiments.intervals import N_RESAMPLES
from gptoss_lab.experiments.thinking import Question, Thinking, thinking_of
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
) -> "pd.DataFrame":
    """How unevenly each head's attention from later steps falls on the steps of a thought.

    of, by: as for `forced_answer`. distance: from how many steps on a later one counts; the paper takes 4, thoughts of
    few steps need less. without_sink: whether attention is taken as a share of what the sink leaves.

    Returns columns layer, head; kurtosis of the steps' vertical scores (excess; NaN where fewer than four have one, or
    all the same), low and high, a 95 % bootstrap interval over the later steps; sink, the mean mass that the sink takes
    from the thought's tokens; step and text, the one that receives most, and its score, the mean attention that a token
    of it gets from a later token that can see it; n, the steps with a score. The highest kurtosis comes first.

    A high kurtosis says where a head looks, not that it matters: `suppress` and `edits.ablate_head` ask that.
    """
    thinking = thinking_of(model, of, by)
    found: dict[int, _Layer] = {}
    points = [f"blocks.{layer}.attn.{point}" for layer in range(model.config.n_layers) for point in _POINTS]
    sinks: dict[int, Tensor] = {}

    def keep(tensor: Tensor, hook: HookPoint) -> None:
        assert hook.layer is not None
        if hook.name.endswith("hook_sink"):
            sinks[hook.layer] = tensor[0].detach()
        else:
            window = model.config.window(hook.layer)
            found[hook.layer] = _between_steps(tensor[0].detach(), sinks[hook.layer], thinking, window, without_sink)

    with model.hooks([(points, keep)]):
        model.transformer(thinking.ids, last_only=True)
    rows = [
        _row(layer, head, found[layer], thinking, distance, seed)
        for layer in range(model.config.n_layers)
        for head in range(model.config.n_heads)
    ]
    return _sorted(rows)


_POINTS = ("hook_sink", "hook_pattern")  # in the order in which they fire


@dataclass(frozen=True)
class _Layer:
    """Attention between steps in one layer."""

    mean: NDArray[np.float64]
    """[head, later step, step]: of a token of the one to a token of the other, over pairs that can see each other."""
    seen: NDArray[np.bool_]
    """[later step, step]: whether there is such a pair. The answer counts as a later step."""
    sink: NDArray[np.float64]
    """[head]"""


def _between_steps(pattern: Tensor, sink: Tensor, thinking: Thinking, window: int | None, without_sink: bool) -> _Layer:
    """pattern: [head, q_pos, k_pos]. sink: [head, q_pos]."""
    n = pattern.shape[-1]
    later = torch.zeros(n, len(thinking.steps) + 1, dtype=pattern.dtype, device=pattern.device)  # [pos, step]
    for number, step in enumerate(thinking.steps):
        later[step.start : step.stop, number] = 1
    later[thinking.answer_start :, -1] = 1
    member = later[:, :-1]
    if without_sink:
        pattern = pattern / (1 - sink).clamp_min(1e-9)[..., None]
    behind = torch.arange(n, device=pattern.device)[:, None] - torch.arange(n, device=pattern.device)
    visible = ((behind >= 0) & (behind < (window or n))).to(pattern.dtype)
    pairs = later.T @ visible @ member
    mean = (later.T @ pattern @ member) / pairs.clamp_min(1)
    of_thought = member.sum(dim=1) > 0
    return _Layer(
        mean.double().cpu().numpy(), (pairs > 0).cpu().numpy(), sink[:, of_thought].double().mean(dim=1).cpu().numpy()
    )


def _row(layer: int, head: int, attention: _Layer, thinking: Thinking, distance: int, seed: int) -> dict[str, object]:
    later = np.arange(len(thinking.steps) + 1)
    counts = attention.seen & (later[:, None] - later[:-1] >= distance)  # [later step, step]
    whole = np.ones((1, len(later)))
    scores = _vertical(whole, attention.mean[head], counts)[0]
    draws = np.random.default_rng([seed, layer, head]).multinomial(len(later), whole[0] / len(later), size=N_RESAMPLES)
    kurtoses = _kurtosis(_vertical(draws.astype(np.float64), attention.mean[head], counts))
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


def _sorted(rows: list[dict[str, object]]) -> "pd.DataFrame":
    import pandas as pd

    table = pd.DataFrame(rows, columns=list(COLUMNS))
    return table.sort_values("kurtosis", ascending=False, kind="stable", ignore_index=True)
