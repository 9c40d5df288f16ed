"""Hook points: where a forward pass can be watched and changed.

A hook is `fn(tensor, hook) -> tensor | None`. It sees a float32 tensor (int64 for expert indices) and may return
another of the same shape, which everything that follows then uses. Names are TransformerLens's where it has one.
"""

import difflib
import fnmatch
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gptoss_lab.config import ModelConfig

LAYER_POINTS = (
    "hook_resid_pre",
    "ln1.hook_scale",
    "ln1.hook_normalized",
    "attn.hook_q",
    "attn.hook_k",
    "attn.hook_v",
    "attn.hook_rot_q",
    "attn.hook_rot_k",
    "attn.hook_attn_scores",
    "attn.hook_sink",
    "attn.hook_pattern",
    "attn.hook_z",
    "hook_attn_out",
    "hook_resid_mid",
    "ln2.hook_scale",
    "ln2.hook_normalized",
    "mlp.hook_router_logits",
    "mlp.hook_expert_indices",
    "mlp.hook_topk_weights",
    "mlp.hook_expert_weights",
    "mlp.hook_expert_out",
    "hook_mlp_out",
    "hook_resid_post",
)
"""The points of a layer, under `blocks.{layer}.`, in the order in which they fire."""

TOP_POINTS = ("hook_embed", "ln_final.hook_scale", "ln_final.hook_normalized")

READ_ONLY = frozenset({"attn.hook_sink", "mlp.hook_expert_weights"})
"""Points that are derived from others: a hook may look, not change."""

ALIASES = {"mlp.router.hook_out": "mlp.hook_router_logits", "mlp.hook_router_scores": "mlp.hook_topk_weights"}
"""TransformerLens's names for the same thing."""

_FREE_LAST_AXIS = frozenset({"mlp.hook_expert_indices"})  # a hook may choose more or fewer experts


@dataclass(frozen=True)
class HookPoint:
    """Where a hook was called: its full name, its layer (None at the top level), the absolute positions it sees."""

    name: str
    layer: int | None
    positions: range
    tokens: Tensor = field(compare=False, repr=False)
    """All ids so far, those of `positions` included, int64 [batch, positions.stop]; the same object within a pass."""


HookFunction = Callable[[Tensor, HookPoint], Tensor | None]
NamesFilter = str | Sequence[str] | Callable[[str], bool] | None
Registered = Mapping[str, Sequence[HookFunction]]


def observer(function: Callable) -> Callable:
    """Marks a hook, or a method that serves as one, that looks at tensors and no more: it changes none, returns nothing
    and copies what it keeps. It may be called late, when later layers have run already, and costs little for that.
    """
    function.observes = True  # type: ignore[attr-defined]
    return function


def only_observed(registered: Registered, points: Collection[str]) -> bool:
    """Whether all hooks beyond the embedding are observers, and at some of these points of layers."""
    return all(
        name.startswith("blocks.")
        and name.split(".", 2)[2] in points
        and all(getattr(function, "observes", False) for function in functions)
        for name, functions in registered.items()
        if name != "hook_embed"
    )


def all_names(config: ModelConfig) -> list[str]:
    """Every hook point of a model, in the order in which they fire."""
    layers = [f"blocks.{layer}.{point}" for layer in range(config.n_layers) for point in LAYER_POINTS]
    return [TOP_POINTS[0], *layers, *TOP_POINTS[1:]]


def matching(names_filter: NamesFilter, config: ModelConfig) -> list[str]:
    """The points that a filter selects: a name, a pattern with `*`, several of these, a predicate, or None for all.

    Raises KeyError, with near names, where a name or pattern selects nothing.
    """
    names = all_names(config)
    if names_filter is None:
        return names
    if callable(names_filter):
        return [name for name in names if names_filter(name)]
    patterns = [names_filter] if isinstance(names_filter, str) else names_filter
    selected: set[str] = set()
    for pattern in patterns:
        matches = fnmatch.filter(names, canonical(pattern))
        if not matches:
            raise KeyError(_nothing_matches(pattern, names))
        selected.update(matches)
    return [name for name in names if name in selected]


def canonical(name: str) -> str:
    """The name under which a point is known here."""
    for alias, ours in ALIASES.items():
        if name.endswith(f".{alias}"):
            return name.removesuffix(alias) + ours
    return name


def register(hooks: Iterable[tuple[NamesFilter, HookFunction]], config: ModelConfig) -> dict[str, list[HookFunction]]:
    """Hooks by the full name of their point, in the order given. Raises as `matching` does."""
    registered: dict[str, list[HookFunction]] = {}
    for names_filter, function in hooks:
        for name in matching(names_filter, config):
            registered.setdefault(name, []).append(function)
    return registered


class ActivationCache(dict[str, Tensor]):
    """What `run_with_cache` recorded, by the name of the hook point. TransformerLens's names work too."""

    def __missing__(self, name: str) -> Tensor:
        if (ours := canonical(name)) in self:
            return self[ours]
        raise KeyError(_nothing_matches(name, list(self)))


class Listener:
    """The hooks of one forward pass. Called at each point with what passes there; gives back what to go on with."""

    def __init__(self, registered: Registered, positions: range, tokens: Tensor, layer: int | None = None):
        self._registered = registered
        self._positions = positions
        self._tokens = tokens
        self._layer = layer
        self._prefix = "" if layer is None else f"blocks.{layer}."

    def at(self, layer: int) -> "Listener":
        """The same hooks, for the points of one layer."""
        return Listener(self._registered, self._positions, self._tokens, layer)

    def wants(self, *points: str) -> bool:
        """Whether anything listens at one of these points: what nobody wants need not be computed."""
        return any(self._prefix + point in self._registered for point in points)

    def wanted(self, points: Collection[str], n_layers: int) -> dict[str, list[int]]:
        """Which of these points of layers are listened at, and in which layers."""
        every = range(n_layers)
        layers = {point: [n for n in every if f"blocks.{n}.{point}" in self._registered] for point in points}
        return {point: found for point, found in layers.items() if found}

    def __call__(self, point: str, tensor: Tensor) -> Tensor:
        name = self._prefix + point
        for function in self._registered.get(name, ()):
            changed = function(tensor, HookPoint(name, self._layer, self._positions, self._tokens))
            if changed is not None:
                tensor = _checked(changed, tensor, point, name)
        return tensor


class _SilentListener(Listener):
    """Where nothing listens."""

    def __init__(self) -> None:
        super().__init__({}, range(0), torch.empty(0, 0, dtype=torch.int64))

    def at(self, layer: int) -> Listener:
        return self

    def wants(self, *points: str) -> bool:
        return False

    def wanted(self, points: Collection[str], n_layers: int) -> dict[str, list[int]]:
        return {}

    def __call__(self, point: str, tensor: Tensor) -> Tensor:
        return tensor


SILENT = _SilentListener()


def _checked(changed: Tensor, original: Tensor, point: str, name: str) -> Tensor:
    if point in READ_ONLY:
        raise ValueError(f"{name} is read only: change what it is derived from (see gptoss_lab.hooks.LAYER_POINTS)")
    if not isinstance(changed, torch.Tensor):
        raise TypeError(f"a hook at {name} returned {type(changed).__name__}; expected a tensor or None")
    kept = slice(None, -1) if point in _FREE_LAST_AXIS else slice(None)
    if changed.shape[kept] != original.shape[kept] or changed.dim() != original.dim():
        raise ValueError(
            f"a hook at {name} returned shape {tuple(changed.shape)}; expected {tuple(original.shape)}, as it was given"
        )
    return changed.to(original)


def _nothing_matches(pattern: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(pattern, names, n=4, cutoff=0.5) or list(names[:4])
    return f"no hook point matches {pattern!r}; near it: {', '.join(near)}"
