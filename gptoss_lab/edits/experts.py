"""Edits of the routing: which experts serve a token, and how much of each one's answer counts.

The edits as values; `routing` carries them out.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Unpack

import torch
from torch import Tensor

from gptoss_lab.config import ModelConfig
from gptoss_lab.edits.base import Edit, finite, in_range, numbers_of, optional_numbers, whole_numbers
from gptoss_lab.edits.where import Conditions, at
from gptoss_lab.edits.wording import counted, is_or_are

Numbers = int | Iterable[int]


def ablate_expert(expert: Numbers, layer: Numbers | None = None, **where: Unpack[Conditions]) -> "ScaleExpert":
    """The expert's share counts for nothing; the others keep theirs. The router knows nothing of it: its weights stay.

    expert: one or several. layer: one, several or (None) every layer. For the conditions see `edits.at`.
    """
    return scale_expert(expert, 0.0, layer, **where)


def scale_expert(
    expert: Numbers, scale: float, layer: Numbers | None = None, **where: Unpack[Conditions]
) -> "ScaleExpert":
    """The expert's share is multiplied by `scale`, any finite number: 0 ablates it, a negative one turns it round."""
    return ScaleExpert(numbers_of("expert", expert), scale, layers=optional_numbers("layer", layer), where=at(**where))


def mask_expert(expert: Numbers, layer: Numbers | None = None, **where: Unpack[Conditions]) -> "MaskExpert":
    """The router cannot choose the expert: the next best takes its place, and the chosen are weighed again."""
    return MaskExpert(numbers_of("expert", expert), layers=optional_numbers("layer", layer), where=at(**where))


def force_expert(expert: Numbers, layer: Numbers | None = None, **where: Unpack[Conditions]) -> "ForceExpert":
    """The expert is always among the chosen, in place of the last of them; the chosen are weighed again."""
    return ForceExpert(numbers_of("expert", expert), layers=optional_numbers("layer", layer), where=at(**where))


def swap_experts(first: int, second: int, layer: Numbers | None = None, **where: Unpack[Conditions]) -> "SwapExperts":
    """Two experts change places: what the router meant for one goes to the other, with the same weight."""
    return SwapExperts(
        *numbers_of("expert", [first]),
        *numbers_of("expert", [second]),
        layers=optional_numbers("layer", layer),
        where=at(**where),
    )


def bias_router(
    expert: Numbers, bias: float, layer: Numbers | None = None, **where: Unpack[Conditions]
) -> "BiasRouter":
    """The expert's router logit gets `bias` more; the router then chooses and weighs."""
    return BiasRouter(numbers_of("expert", expert), bias, layers=optional_numbers("layer", layer), where=at(**where))


def set_top_k(k: int, layer: Numbers | None = None, **where: Unpack[Conditions]) -> "SetTopK":
    """Each token takes k experts, more or fewer than the model was trained with.

    Where the tokens of a layer differ in k, all of them are given as many places as the largest k; what a token does
    not use has weight 0.
    """
    return SetTopK(*numbers_of("k", [k]), layers=optional_numbers("layer", layer), where=at(**where))


@dataclass(frozen=True)
class _OfExperts(Edit):
    experts: tuple[int, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_numbers("expert", self.experts)

    def check(self, config: ModelConfig) -> None:
        super().check(config)
        in_range("expert", self.experts, config.n_experts)

    @property
    def _subject(self) -> str:
        return f"{counted('expert', self.experts)} {self._of_layers}"


@dataclass(frozen=True)
class ScaleExpert(_OfExperts):
    """See `scale_expert` and `ablate_expert`."""

    scale: float

    def __post_init__(self) -> None:
        super().__post_init__()
        finite("scale", self.scale)

    def __str__(self) -> str:
        done = "ablated" if self.scale == 0 else f"scaled by {self.scale:g}"
        return f"{self._subject} {is_or_are(self.experts)} {done}{self.where.adverb}"


@dataclass(frozen=True)
class MaskExpert(_OfExperts):
    """See `mask_expert`."""

    def __str__(self) -> str:
        return f"{self._subject} {is_or_are(self.experts)} masked{self.where.adverb}"

    def applied(self, logits: Tensor) -> Tensor:
        return logits.index_fill(-1, torch.tensor(self.experts, device=logits.device), -torch.inf)


@dataclass(frozen=True)
class ForceExpert(_OfExperts):
    """See `force_expert`."""

    def __str__(self) -> str:
        return f"{self._subject} {is_or_are(self.experts)} forced{self.where.adverb}"


@dataclass(frozen=True)
class BiasRouter(_OfExperts):
    """See `bias_router`."""

    bias: float

    def __post_init__(self) -> None:
        super().__post_init__()
        finite("bias", self.bias)

    def __str__(self) -> str:
        logits = "logit" if len(self.experts) == 1 else "logits"
        return f"{self.bias:+g} on the router {logits} of {self._subject}{self.where.adverb}"

    def applied(self, logits: Tensor) -> Tensor:
        bias = torch.zeros(logits.shape[-1], device=logits.device)
        bias[list(self.experts)] = self.bias
        return logits + bias


@dataclass(frozen=True)
class SwapExperts(Edit):
    """See `swap_experts`."""

    first: int
    second: int

    def __post_init__(self) -> None:
        super().__post_init__()
        whole_numbers("expert", (self.first, self.second))
        if self.first == self.second:
            raise ValueError(f"two different experts can change places; got {self.first} and {self.second}")

    def check(self, config: ModelConfig) -> None:
        super().check(config)
        in_range("expert", (self.first, self.second), config.n_experts)

    def __str__(self) -> str:
        return f"experts {self.first} and {self.second} {self._of_layers} change places{self.where.adverb}"

    def applied(self, logits: Tensor) -> Tensor:
        order = torch.arange(logits.shape[-1], device=logits.device)
        order[[self.first, self.second]] = order[[self.second, self.first]]
        return logits[..., order]


@dataclass(frozen=True)
class SetTopK(Edit):
    """See `set_top_k`."""

    k: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.k) is not int or self.k < 1:
            raise ValueError(f"k is how many experts a token takes, from 1; got {self.k!r}")

    def check(self, config: ModelConfig) -> None:
        super().check(config)
        if self.k > config.n_experts:
            raise ValueError(f"k is at most this model's {config.n_experts} experts; got {self.k}")

    def __str__(self) -> str:
        taken = "1 expert" if self.k == 1 else f"{self.k} experts"
        return f"each token takes {taken} in {counted('layer', self.layers)}{self.where.adverb}"
