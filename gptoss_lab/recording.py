"""Recording: what to keep of a run, what it will cost, and the hooks that keep it."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gptoss_lab.config import ModelConfig
from gptoss_lab.hooks import HookFunction, HookPoint, observer
from gptoss_lab.logit_lens import BYTES_A_PLACE, UNKNOWN, Lens

WORTH_SAYING = 1e9
"""Bytes from which on the cost of a recording is said beforehand."""

INDICES = "mlp.hook_expert_indices"
ROUTING_POINTS = ("mlp.hook_router_logits", INDICES, "mlp.hook_topk_weights")
RESIDUAL_POINTS = ("hook_resid_pre", "hook_resid_mid", "hook_resid_post")

KINDS = ("routing", "attention", "residual", "experts", "lens", "z")
"""The words that `record=` takes."""


@dataclass(frozen=True)
class Record:
    """What to keep besides routing, which is always kept: layers of each, `ALL` of them or none.

    attention: the pattern and sink of these layers' heads (all of them, unless `heads` says which).
    residual: the residual stream before, between and after the two halves of these layers.
    experts: each chosen expert's share, in these layers.
    lens: the logit lens at the residual stream of these layers, and at the end of the last: what the model would say
        next from there. Taken while the run goes on; it costs about as much as the unembedding, at every point.
    z: what every head of these layers read, before the output matrix.
    """

    attention: Sequence[int] = ()
    heads: Sequence[int] | None = None
    residual: Sequence[int] = ()
    experts: Sequence[int] = ()
    lens: Sequence[int] = ()
    z: Sequence[int] = ()

    def checked(self, config: ModelConfig) -> "Record":
        """The same, in order and without repetition. Raises ValueError for layers and heads that there are not."""
        heads = range(config.n_heads) if self.heads is None else self.heads
        layers = {kind: _in_range("layer", getattr(self, kind), config.n_layers) for kind in KINDS[1:]}
        return Record(**layers, heads=_in_range("head", heads, config.n_heads))


def record_of(wanted: Record | Sequence[str], config: ModelConfig) -> Record:
    """A `Record` from what `record=` accepts: one of these, or words of `KINDS`.

    Raises ValueError for other words, and as `Record.checked` does.
    """
    if isinstance(wanted, Record):
        return wanted.checked(config)
    words = [wanted] if isinstance(wanted, str) else list(wanted)
    if unknown := [word for word in words if word not in KINDS]:
        raise ValueError(
            f"record names what to keep of a run, of: {', '.join(KINDS)}; got {', '.join(map(repr, unknown))}"
        )
    every = range(config.n_layers)
    return Record(**{kind: every for kind in KINDS[1:] if kind in words}).checked(config)


def cost(record: Record, config: ModelConfig, n_tokens: int) -> int:
    """Bytes that a recording of so many tokens takes. `record` must have been checked.

    The lens counts with the residual streams that it holds while a pass goes on.
    """
    assert record.heads is not None
    routing = config.n_layers * (config.n_experts + 3 * config.experts_per_token)
    attention = len(record.attention) * len(record.heads) * (n_tokens + 1)
    residual = len(residual_names(record.residual)) * config.d_model
    experts = len(record.experts) * config.experts_per_token * config.d_model
    z = len(record.z) * config.n_heads * config.d_head
    lens = len(lens_names(record.lens, config)) * (BYTES_A_PLACE + 4 * config.d_model)
    return n_tokens * (4 * (routing + attention + residual + experts + z) + lens)


def say_cost(record: Record, config: ModelConfig, n_tokens: int) -> None:
    """Warns, where a recording of up to so many tokens may take a gigabyte or more."""
    n_bytes = cost(record, config, n_tokens)
    if n_bytes >= WORTH_SAYING:
        warnings.warn(
            f"this recording may take {n_bytes / 1e9:.1f} GB of memory, at {n_tokens:,} tokens; to take less, record "
            "fewer layers or heads: gptoss_lab.Record(attention=[3], heads=[0, 1])",
            stacklevel=3,
        )


def residual_names(layers: Sequence[int]) -> list[str]:
    """The residual stream's points without repetition: a layer's first is the one before's last."""
    names: list[str] = []
    for layer in layers:
        points = RESIDUAL_POINTS[1:] if f"blocks.{layer - 1}.hook_resid_post" in names else RESIDUAL_POINTS
        names += [f"blocks.{layer}.{point}" for point in points]
    return names


def lens_names(layers: Sequence[int], config: ModelConfig) -> list[str]:
    """The points of these layers where the lens is taken, and the end of the last layer, which it is held against."""
    names, end = residual_names(layers), f"blocks.{config.n_layers - 1}.hook_resid_post"
    return [*names, end] if names and end not in names else names


class Recorder:
    """Collects one sequence's run, over as many forward passes as it takes: give `fwd_hooks` to `model.hooks`.

    unembed: from residual streams to logits, for the lens; see `Transformer.unembed`.
    """

    def __init__(self, record: Record, config: ModelConfig, unembed: Callable[[Tensor], Tensor]):
        self._record, self._config = record, config
        self._lens = Lens(lens_names(record.lens, config), unembed)
        # By name and first position: a pass that is given up half way leaves what the next one overwrites.
        self._seen: dict[str, dict[int, NDArray]] = {}

    @property
    def fwd_hooks(self) -> list[tuple[list[str], HookFunction]]:
        routing = [f"blocks.{layer}.{point}" for layer in range(self._config.n_layers) for point in ROUTING_POINTS]
        attention = [
            f"blocks.{layer}.attn.{point}"
            for layer in self._record.attention
            for point in ("hook_pattern", "hook_sink")
        ]
        shares = [f"blocks.{layer}.mlp.hook_expert_out" for layer in self._record.experts]
        z = [f"blocks.{layer}.attn.hook_z" for layer in self._record.z]
        hooks: list[tuple[list[str], HookFunction]] = [
            ([*routing, *residual_names(self._record.residual), *shares, *z], self._keep),
            (attention, self._keep_heads),
            (list(self._lens.points), self._lens.see),
        ]
        return [(points, hook) for points, hook in hooks if points]

    @property
    def n_positions(self) -> int:
        """Positions seen so far."""
        return sum(map(len, self._parts("blocks.0.mlp.hook_router_logits")))

    def arrays(self, after_last: int = UNKNOWN) -> dict[str, Any]:
        """What was collected, as fields of a `Trace`. after_last: the token that came after the last one seen."""
        record, layers = self._record, range(self._config.n_layers)
        places = max(part.shape[1] for name in self._seen if name.endswith(INDICES) for part in self._parts(name))
        found: dict[str, Any] = {
            "router_logits": np.stack([self._joined(f"blocks.{layer}.mlp.hook_router_logits") for layer in layers]),
            "expert_indices": np.stack([self._in_places(f"blocks.{layer}.{INDICES}", places) for layer in layers]),
            "topk_weights": np.stack(
                [self._in_places(f"blocks.{layer}.mlp.hook_topk_weights", places) for layer in layers]
            ),
        }
        if record.attention:
            found["patterns"] = np.stack([self._pattern(layer) for layer in record.attention])
            sinks = [self._joined(f"blocks.{layer}.attn.hook_sink", axis=-1) for layer in record.attention]
            found |= {"sinks": np.stack(sinks), "attention_layers": record.attention, "attention_heads": record.heads}
        if names := residual_names(record.residual):
            found |= {"residual": np.stack([self._joined(name) for name in names]), "residual_points": tuple(names)}
        if record.experts:
            shares = [self._in_places(f"blocks.{layer}.mlp.hook_expert_out", places) for layer in record.experts]
            found |= {"expert_out": np.stack(shares), "expert_out_layers": record.experts}
        if record.z:
            z = [self._joined(f"blocks.{layer}.attn.hook_z") for layer in record.z]
            found |= {"z": np.stack(z), "z_layers": record.z}
        return found | self._lens.arrays(after_last) if record.lens else found

    @observer
    def _keep(self, tensor: Tensor, hook: HookPoint) -> None:
        # A copy: a later hook may change the tensor in place.
        self._seen.setdefault(hook.name, {})[hook.positions.start] = tensor[0].numpy(force=True).copy()

    @observer
    def _keep_heads(self, tensor: Tensor, hook: HookPoint) -> None:
        """As `_keep`, the wanted heads of [batch, head, ...] alone."""
        heads = list(self._record.heads or ())
        self._keep(tensor if heads == list(range(tensor.shape[1])) else tensor[:, heads], hook)

    def _parts(self, name: str) -> list[NDArray]:
        """What each pass left there."""
        return list(self._seen.get(name, {}).values())

    def _joined(self, name: str, axis: int = 0) -> NDArray:
        return np.concatenate(self._parts(name), axis=axis)

    def _in_places(self, name: str, places: int) -> NDArray:
        """As `_joined`, with a place for each chosen expert, [pos, place, ...]."""
        return np.concatenate([_filled_up(part, places, self._config.n_experts) for part in self._parts(name)])

    def _pattern(self, layer: int) -> NDArray[np.float32]:
        """A layer's attention [head, pos, k_pos], from passes that each saw only the positions so far."""
        n = self.n_positions
        parts = self._parts(f"blocks.{layer}.attn.hook_pattern")
        whole = np.zeros((parts[0].shape[0], n, n), dtype=np.float32)
        position = 0
        for part in parts:
            _, n_queries, n_keys = part.shape
            whole[:, position : position + n_queries, :n_keys] = part
            position += n_queries
        return whole


def _filled_up(part: NDArray, places: int, n_experts: int) -> NDArray:
    """[pos, k, ...] as [pos, places, ...]: an edit or a hook may take fewer experts in one layer than in others.

    Indices are filled up with experts that were not chosen, everything else with 0.
    """
    missing = places - part.shape[1]
    if part.dtype.kind != "i":
        return np.pad(part, [(0, 0), (0, missing), *[(0, 0)] * (part.ndim - 2)])
    is_chosen = np.zeros((len(part), n_experts), dtype=np.bool_)
    np.put_along_axis(is_chosen, part, True, axis=1)
    return np.concatenate((part, np.argsort(is_chosen, axis=1, kind="stable")[:, :missing]), axis=1)


def _in_range(what: str, numbers: Iterable[int], n: int) -> tuple[int, ...]:
    chosen = tuple(sorted(set(numbers)))
    if wrong := [number for number in chosen if not 0 <= number < n]:
        raise ValueError(f"there is no {what} {wrong[0]}; {what}s run from 0 to {n - 1}")
    return chosen
