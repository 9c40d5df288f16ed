"""Edits of activations: patched in from another run, or moved along a direction."""

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations as pairs_of
from typing import Any, Unpack

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from gptoss_lab.config import ModelConfig
from gptoss_lab.edits.base import Edit, Hooks, finite, in_range, numbers_of, of_kind, optional_numbers, whole_numbers
from gptoss_lab.edits.sight import Sight
from gptoss_lab.edits.where import Conditions, Positions, at, combinations
from gptoss_lab.edits.wording import counted
from gptoss_lab.hooks import HookFunction, HookPoint

Numbers = int | Iterable[int]

RESIDUAL_POINTS = ("hook_resid_pre", "hook_resid_mid", "hook_resid_post")
HEAD_POINTS = ("attn.hook_q", "attn.hook_rot_q", "attn.hook_z")
PATCH_POINTS = (*RESIDUAL_POINTS, "hook_attn_out", "hook_mlp_out", *HEAD_POINTS, "mlp.hook_router_logits")


def patch(
    activations: Mapping[str, Tensor] | ArrayLike | Tensor,
    layer: int,
    point: str = "hook_resid_post",
    *,
    head: Numbers | None = None,
    from_positions: Positions | None = None,
    **where: Unpack[Conditions],
) -> "Patch":
    """What passed in another run stands here instead.

    activations: what `run_with_cache` recorded, or one tensor of it: the whole other run, [pos, ...] or [1, pos, ...].
    point: one of `PATCH_POINTS`, in one layer. head: at points that have heads, which; all where not given.
    positions: where to; all positions of the other run where not given. from_positions: where from, the same where not
        given. Both in ascending order, and as many of the one as of the other. The other conditions of `edits.at`
        narrow it down.

    Raises ValueError for a point that cannot be patched and positions that the other run does not have, KeyError where
    `activations` does not hold the point.
    """
    whole = _values(activations[f"blocks.{layer}.{point}"] if isinstance(activations, Mapping) else activations)
    if whole.ndim == (4 if point in HEAD_POINTS else 3) and len(whole) == 1:
        whole = whole[0]
    to: Positions | None = where.get("positions")
    source = _positions(to if from_positions is None else from_positions, len(whole))
    to = source if from_positions is None else at(to).numbers()
    if len(source) != len(to):
        raise ValueError(f"{len(source)} positions are taken, and {len(to)} are to be patched: give as many of both")
    return Patch(
        point,
        Values.of(whole[source]),
        optional_numbers("head", head),
        layers=numbers_of("layer", layer),
        where=replace(at(**where), positions=at(to).positions),
    )


def steer(
    direction: ArrayLike | Tensor,
    layer: Numbers | None = None,
    scale: float = 1.0,
    point: str = "hook_resid_post",
    **where: Unpack[Conditions],
) -> "Steer":
    """The residual stream is moved by `scale` times a direction, [d_model], which is taken as long as it is.

    point: one of `RESIDUAL_POINTS`. layer: one, several or (None) every layer.
    """
    return Steer(
        point, Values.of(_values(direction)), scale, layers=optional_numbers("layer", layer), where=at(**where)
    )


@dataclass(frozen=True)
class Values:
    """An array of float32, as a value that can be compared and written to JSON."""

    shape: tuple[int, ...]
    data: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not (isinstance(self.shape, tuple) and all(type(n) is int and n > 0 for n in self.shape)):
            raise ValueError(f"an array's shape is whole numbers above 0; got {self.shape!r}")
        if len(self.data) != 4 * int(np.prod(self.shape)):
            raise ValueError(
                f"an array of shape {self.shape} has {4 * int(np.prod(self.shape))} bytes; got {len(self.data)}"
            )
        if not np.isfinite(self.array()).all():
            raise ValueError("activations and directions are finite numbers; got NaN or infinity")

    @classmethod
    def of(cls, array: NDArray[np.float32]) -> "Values":
        return cls(array.shape, array.astype("<f4").tobytes())

    def array(self) -> NDArray[np.float32]:
        return np.frombuffer(self.data, dtype="<f4").reshape(self.shape).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        return {"shape": list(self.shape), "float32": base64.b64encode(self.data).decode()}

    @classmethod
    def from_json(cls, data: Any) -> "Values":
        """What `to_json` gave. Raises ValueError for anything else."""
        try:
            return cls(tuple(data["shape"]), base64.b64decode(data["float32"], validate=True))
        except (KeyError, TypeError, binascii.Error) as error:
            raise ValueError(f"an array is a shape and its float32 in base64; {error!r}") from None


@dataclass(frozen=True)
class Patch(Edit):
    """See `patch`. The rows of `values` belong to the positions of `where`, in ascending order."""

    point: str
    values: Values
    heads: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.point not in PATCH_POINTS:
            raise ValueError(f"what can be patched is {', '.join(PATCH_POINTS)}; got {self.point!r}")
        if self.layers is None or len(self.layers) != 1:
            raise ValueError(f"a patch belongs to one layer; got {self.layers}")
        if self.heads is not None:
            whole_numbers("head", self.heads)
            if self.point not in HEAD_POINTS:
                raise ValueError(f"heads can be patched at {', '.join(HEAD_POINTS)}; got {self.point!r}")
        n = len(self.where.numbers())
        if not isinstance(self.values, Values) or self.values.shape[:1] != (n,):
            raise ValueError(f"a patch of {n} positions needs as many rows of activations; got {self.values!r}")

    def check(self, config: ModelConfig) -> None:
        super().check(config)
        in_range("head", self.heads, config.n_heads)
        if self.values.shape[1:] != (expected := _shape_at(self.point, config)):
            raise ValueError(
                f"at {self.point} this model has activations of shape {expected} a token; got {self.values.shape[1:]}"
            )

    def __str__(self) -> str:
        heads = f"{counted('head', self.heads)} of " if self.heads else ""
        return f"{heads}{self.point} {self._of_layers} is patched from another run{self.where.adverb}"


@dataclass(frozen=True)
class Steer(Edit):
    """See `steer`."""

    point: str
    direction: Values
    scale: float

    def __post_init__(self) -> None:
        super().__post_init__()
        finite("scale", self.scale)
        if self.point not in RESIDUAL_POINTS:
            raise ValueError(f"what can be steered is {', '.join(RESIDUAL_POINTS)}; got {self.point!r}")
        if not isinstance(self.direction, Values):
            raise ValueError(f"a direction is a vector; got {self.direction!r}")

    def check(self, config: ModelConfig) -> None:
        super().check(config)
        if self.direction.shape != (config.d_model,):
            raise ValueError(
                f"a direction in this model's residual stream has {config.d_model} values; got shape "
                f"{self.direction.shape}"
            )

    def __str__(self) -> str:
        norm = float(np.linalg.norm(self.direction.array()))
        return (
            f"{self.point} {self._of_layers} is steered by {self.scale:g} times a direction of norm {norm:.3g}"
            f"{self.where.adverb}"
        )


def activation_hooks(edits: Sequence[Edit], config: ModelConfig, sight: Sight) -> Hooks:
    """The hooks of all patches, then of all that steers."""

    def patched(edit: Patch) -> HookFunction:
        values, positions = torch.from_numpy(edit.values.array()), edit.where.numbers()
        heads = torch.zeros(config.n_heads, dtype=torch.bool)
        heads[list(range(config.n_heads) if edit.heads is None else edit.heads)] = True

        def change(tensor: Tensor, hook: HookPoint) -> Tensor:  # [batch, pos, ...]
            rows = np.searchsorted(positions, np.array(hook.positions)).clip(max=len(positions) - 1)
            meant = sight.touched(edit.where, hook).reshape(len(tensor), -1, *[1] * (tensor.dim() - 2))
            if edit.heads is not None:
                meant = meant & heads.to(tensor.device)[:, None]
            return torch.where(meant, values[rows].to(tensor.device), tensor)

        return change

    def steered(edit: Steer) -> HookFunction:
        push = torch.from_numpy(edit.direction.array()) * edit.scale

        def change(tensor: Tensor, hook: HookPoint) -> Tensor:  # [batch, pos, d_model]
            meant = sight.touched(edit.where, hook)[..., None]
            return torch.where(meant, tensor + push.to(tensor.device), tensor)

        return change

    plan: list[tuple[Patch | Steer, HookFunction]] = [
        *((edit, patched(edit)) for edit in of_kind(edits, Patch)),
        *((edit, steered(edit)) for edit in of_kind(edits, Steer)),
    ]
    return [(f"blocks.{layer}.{edit.point}", hook) for edit, hook in plan for layer in edit.layers_of(config)]


def check_activations(edits: Sequence[Edit], config: ModelConfig) -> None:
    """Raises ValueError where two patches meet."""
    for one, other in pairs_of(of_kind(edits, Patch), 2):
        if (one.point, one.layers) != (other.point, other.layers):
            continue
        share_heads = one.heads is None or other.heads is None or set(one.heads) & set(other.heads)
        if share_heads and (True, True) in combinations([one.where, other.where], config.n_ctx):
            raise ValueError(f"two patches cannot be at the same place: {one}; {other}")


def _shape_at(point: str, config: ModelConfig) -> tuple[int, ...]:
    """What passes at a point for one token."""
    if point in HEAD_POINTS:
        return config.n_heads, config.d_head
    return (config.n_experts,) if point == "mlp.hook_router_logits" else (config.d_model,)


def _values(given: Any) -> NDArray[np.float32]:
    array = given.detach().cpu().numpy() if isinstance(given, Tensor) else np.asarray(given)
    if array.dtype.kind not in "fiu":
        raise ValueError(f"activations and directions are numbers; got {array.dtype}")
    return array.astype(np.float32)


def _positions(given: Positions | None, n: int) -> NDArray[np.int64]:
    """Positions of the other run of n tokens, ascending; all of them where none are given."""
    place = at(given)
    place.check(n, of="the other run")
    return np.flatnonzero(place.contains(np.arange(n)))
