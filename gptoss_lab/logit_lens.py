"""The logit lens: what a model would say next if its residual stream, here or there, went straight to the end.

Method: nostalgebraist, "interpreting GPT: the logit lens" (2020): the final norm and the unembedding applied early.
Axes: point (a place in the residual stream, the last one the model's own end), pos, choice (likeliest first).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gptoss_lab.hooks import HookPoint

N_CHOICES = 5
"""How many of the likeliest tokens are kept at each point and position."""

UNKNOWN = -1
"""Stands for a next token that is not known."""

BYTES_A_PLACE = N_CHOICES * (8 + 4) + 4 * 4
"""What the arrays of `read` take for one point and position."""

_ROWS = 64  # points and positions that are unembedded together: a large vocabulary's logits are 0.8 MB each


class Lens:
    """Reads the residual streams of one sequence as its passes go by: give `see` to the model as a hook at `points`.

    points: names of hook points in the order in which they fire, the last one the end of the last layer.
    unembed: from residual streams [..., d_model] to logits [..., d_vocab].

    A position is read as soon as the token after it is known, so only the last one waits for another pass.
    """

    def __init__(self, points: Sequence[str], unembed: Callable[[Tensor], Tensor]):
        self.points = tuple(points)
        self._unembed = unembed
        self._passing: dict[str, Tensor] = {}  # of the present pass, and overwritten by the next where it is given up
        self._waiting: list[Tensor] = []  # [1, d_model] of each point
        self._readings: list[dict[str, NDArray]] = []

    def see(self, tensor: Tensor, hook: HookPoint) -> None:
        # A copy: a later hook may change the tensor in place.
        self._passing[hook.name] = tensor[0].detach().clone()
        if hook.name == self.points[-1]:
            self._end_of_pass(hook.tokens[0, hook.positions.start : hook.positions.stop].tolist())

    def arrays(self, after_last: int = UNKNOWN) -> dict[str, Any]:
        """What was read, as fields of a `Trace`. after_last: the token that came after the last one seen."""
        readings = [*self._readings, read(self._unembed, self._waiting, [after_last])]
        joined = {name: np.concatenate([reading[name] for reading in readings], axis=1) for name in readings[0]}
        return {**joined, "lens_points": self.points}

    def _end_of_pass(self, tokens: Sequence[int]) -> None:
        streams = [self._passing[point] for point in self.points]
        if self._waiting:
            self._readings.append(read(self._unembed, self._waiting, tokens[:1]))
        if len(tokens) > 1:
            self._readings.append(read(self._unembed, [stream[:-1] for stream in streams], tokens[1:]))
        self._waiting = [stream[-1:].clone() for stream in streams]
        self._passing.clear()


def read(
    unembed: Callable[[Tensor], Tensor], streams: Sequence[Tensor], following: Sequence[int]
) -> dict[str, NDArray]:
    """The lens at residual streams, [pos, d_model] of each point. Only a few positions' logits stand there at a time.

    following: the token that came after each position, [pos]; `UNKNOWN` where nobody knows.

    Returns, under their names in a `Trace`, lens_tokens and lens_logprobs [point, pos, choice], and lens_entropy,
    lens_rank, lens_logprob and lens_kl [point, pos].
    """
    at_once = max(1, _ROWS // len(streams))
    parts = []
    for first in range(0, len(following), at_once):
        some = torch.stack([stream[first : first + at_once] for stream in streams])
        ids = torch.tensor(following[first : first + at_once], dtype=torch.int64, device=some.device)
        parts.append(_read_at_once(unembed(some).detach().log_softmax(dim=-1), ids))
    return {name: np.concatenate([part[name].cpu().numpy() for part in parts], axis=1) for name in parts[0]}


def _read_at_once(logprobs: Tensor, following: Tensor) -> dict[str, Tensor]:
    """As `read`, from log-probabilities [point, pos, d_vocab] and the tokens that followed, [pos]."""
    top = logprobs.topk(min(N_CHOICES, logprobs.shape[-1]), dim=-1)
    is_known = following != UNKNOWN
    places = following.clamp_min(0).expand(len(logprobs), -1)[..., None]
    own = logprobs.gather(-1, places)
    final = logprobs[-1]
    return {
        "lens_tokens": top.indices,
        "lens_logprobs": top.values,
        "lens_entropy": -(logprobs.exp() * logprobs).sum(dim=-1),
        "lens_rank": (logprobs > own).sum(dim=-1).where(is_known, UNKNOWN).int(),
        "lens_logprob": own[..., 0].where(is_known, torch.nan),
        "lens_kl": (final.exp() * (final - logprobs)).sum(dim=-1).clamp_min(0),
    }
