"""Trace: what a run of the model did, as arrays with documented axes.

Axes: pos counts tokens from the start of the prompt; layer, head and expert count from 0; rank from the largest router
logit; k_pos is the position that is looked at. Routing is always there; the rest where it was recorded.
"""

import json
from dataclasses import asdict, dataclass, field, fields
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gptoss_lab.harmony import Span

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

FORMAT = "gptoss_lab.trace/1"


@dataclass(frozen=True, eq=False)
class Trace:
    """Prompt and reply together, token by token."""

    token_ids: NDArray[np.int64]  # [pos]
    texts: list[str]  # [pos], each token's own text; bytes that are no UTF-8 show as replacement characters
    spans: list[Span]  # [pos]
    n_prompt: int  # tokens before this belong to the prompt
    logprobs: NDArray[np.float32]  # [pos], natural logarithm, of each token after those before it; NaN where unknown
    router_logits: NDArray[np.float32]  # [layer, pos, expert]
    expert_indices: NDArray[np.int64]  # [layer, pos, rank]
    topk_weights: NDArray[np.float32]  # [layer, pos, rank], sum to 1 over rank
    model_name: str = ""
    provenance: dict[str, str] = field(default_factory=dict)
    """Where this came from: kit version, checkpoint, sampling, edits."""

    alternatives: NDArray[np.int64] | None = None  # [pos, choice], the likeliest tokens at that place, likeliest first
    alternative_logprobs: NDArray[np.float32] | None = None  # [pos, choice]
    alternative_texts: list[list[str]] | None = None  # [pos][choice]

    patterns: NDArray[np.float32] | None = None  # [recorded layer, recorded head, pos, k_pos], rows sum to 1 - sink
    sinks: NDArray[np.float32] | None = None  # [recorded layer, recorded head, pos], the mass that the sink takes
    attention_layers: tuple[int, ...] = ()
    attention_heads: tuple[int, ...] = ()

    residual: NDArray[np.float32] | None = None  # [point, pos, d_model]
    residual_points: tuple[str, ...] = ()  # hook points, in the order in which they fire

    expert_out: NDArray[np.float32] | None = None  # [recorded layer, pos, rank, d_model], weighted shares
    expert_out_layers: tuple[int, ...] = ()

    z: NDArray[np.float32] | None = (
        None  # [recorded layer, pos, head, d_head], what heads read; before the output matrix
    )
    z_layers: tuple[int, ...] = ()

    # The logit lens: what the model would say next, were its residual stream at a point to go straight to the end.
    lens_points: tuple[str, ...] = ()  # hook points, in the order in which they fire; the last is the model's own end
    lens_tokens: NDArray[np.int64] | None = None  # [lens point, pos, choice], the likeliest tokens, likeliest first
    lens_logprobs: NDArray[np.float32] | None = None  # [lens point, pos, choice], natural logarithm
    lens_texts: dict[int, str] = field(default_factory=dict)  # of every token in lens_tokens
    lens_entropy: NDArray[np.float32] | None = None  # [lens point, pos], nats
    lens_rank: NDArray[np.int32] | None = None  # [lens point, pos], tokens likelier than the one that came; -1: unknown
    lens_logprob: NDArray[np.float32] | None = None  # [lens point, pos], of the token that came next; NaN where unknown
    lens_kl: NDArray[np.float32] | None = None  # [lens point, pos], KL(last point || this one), nats

    @property
    def n_layers(self) -> int:
        return self.router_logits.shape[0]

    @property
    def n_experts(self) -> int:
        return self.router_logits.shape[2]

    def margins(self) -> NDArray[np.float32]:
        """By how much each choice was made, [layer, pos]: last chosen router logit less the first unchosen one.

        Infinite where every expert was chosen.
        """
        k = self.expert_indices.shape[2]
        chosen = np.take_along_axis(self.router_logits, self.expert_indices, axis=2).min(axis=2)
        if k >= self.n_experts:
            return np.full_like(chosen, np.inf)
        others = self.router_logits.copy()
        np.put_along_axis(others, self.expert_indices, -np.inf, axis=2)
        return chosen - others.max(axis=2)

    def dense_weights(self) -> NDArray[np.float32]:
        """Each expert's weight, 0 where it was not chosen, [layer, pos, expert]."""
        weights = np.zeros_like(self.router_logits)
        np.put_along_axis(weights, self.expert_indices, self.topk_weights, axis=2)
        return weights

    # Tidy tables

    def routing(self) -> "pd.DataFrame":
        """A row for every layer, token and chosen expert.

        Columns: position, token (its id), text, role, channel, section, layer, rank, expert, weight, margin (of the
        layer's choice, in router logits).
        """
        layer, position, rank = (axis.ravel() for axis in np.indices(self.expert_indices.shape))
        return self._about(position).assign(
            layer=layer,
            rank=rank,
            expert=self.expert_indices.ravel(),
            weight=self.topk_weights.ravel(),
            margin=self.margins()[layer, position],
        )

    def attention(self, at_least: float = 0.01) -> "pd.DataFrame":
        """A row for every recorded layer, head, token, and position that it gives at least so much attention.

        Columns: position, token, text, role, channel, section (of the token that looks), layer, head, to (the position
        looked at; -1 for the sink), to_text ("(sink)" for the sink), weight. Raises ValueError where no attention was
        recorded.
        """
        with_sink = np.concatenate((self._recorded("patterns"), self._recorded("sinks")[..., None]), axis=-1)
        layer, head, position, to = np.nonzero(with_sink >= at_least)
        is_sink = to == len(self.token_ids)
        to_texts = np.array([*self.texts, "(sink)"], dtype=object)
        return self._about(position).assign(
            layer=np.array(self.attention_layers)[layer],
            head=np.array(self.attention_heads)[head],
            to=np.where(is_sink, -1, to),
            to_text=to_texts[to],
            weight=with_sink[layer, head, position, to],
        )

    def tokens(self) -> "pd.DataFrame":
        """A row for every token. Columns: position, token, text, role, channel, section, logprob, probability."""
        return self._about(np.arange(len(self.token_ids))).assign(
            logprob=self.logprobs, probability=np.exp(self.logprobs)
        )

    def to_xarray(self) -> "xr.Dataset":
        """Every recorded array, with its axes by name. Raises ImportError where xarray is not installed."""
        try:
            import xarray as xr
        except ImportError as error:
            raise ImportError("Trace.to_xarray needs xarray: pip install xarray") from error
        arrays = {name: (axes, getattr(self, name)) for name, axes in _AXES.items() if getattr(self, name) is not None}
        coordinates = {
            "attention_layer": list(self.attention_layers),
            "attention_head": list(self.attention_heads),
            "point": list(self.residual_points),
            "expert_out_layer": list(self.expert_out_layers),
            "z_layer": list(self.z_layers),
            "lens_point": list(self.lens_points),
            "text": ("pos", np.array(self.texts, dtype=object)),
            "channel": ("pos", np.array([span.channel for span in self.spans], dtype=object)),
        }
        used = {axis for axes, _ in arrays.values() for axis in axes} | {"text", "channel"}
        return xr.Dataset(
            arrays,
            coords={name: values for name, values in coordinates.items() if name in used},
            attrs={"model": self.model_name, "n_prompt": self.n_prompt, **self.provenance},
        )

    # Files

    def save(self, path: str | PathLike[str]) -> Path:
        """Writes one safetensors file, which `load_trace` reads without the model. Returns its path."""
        from safetensors.numpy import save_file

        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in _AXES if getattr(self, name) is not None}
        rest = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in _AXES}
        rest["spans"] = [asdict(span) for span in self.spans]
        path = Path(path)
        unfinished = path.with_name(path.name + ".part")
        try:
            save_file(arrays, unfinished, metadata={"format": FORMAT, "trace": json.dumps(rest)})
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        return path

    # Helpers

    def _about(self, position: NDArray[np.int64]) -> "pd.DataFrame":
        """The token at each position, and where it stands."""
        import pandas as pd

        def of_spans(name: str) -> NDArray:
            return np.array([getattr(span, name) for span in self.spans], dtype=object)[position]

        return pd.DataFrame(
            {
                "position": position,
                "token": self.token_ids[position],
                "text": np.array(self.texts, dtype=object)[position],
                "role": of_spans("role"),
                "channel": of_spans("channel"),
                "section": of_spans("section"),
            }
        )

    def _recorded(self, name: str) -> NDArray:
        if getattr(self, name) is None:
            raise ValueError(
                f'this trace has no {name}: trace with record=("attention", "residual", "experts", "lens", "z")'
            )
        return getattr(self, name)


def load_trace(path: str | PathLike[str]) -> Trace:
    """A trace from the file that `Trace.save` wrote.

    Raises FileNotFoundError where there is no such file, ValueError where it holds something else.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected a file that Trace.save wrote")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ValueError(f"its format is {metadata.get('format')!r}; expected {FORMAT!r}")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dictionary)
        rest: dict[str, Any] = json.loads(metadata["trace"])
        rest["spans"] = [Span(**span) for span in rest["spans"]]
        for name in _TUPLES & rest.keys():
            rest[name] = tuple(rest[name])
        rest["lens_texts"] = {int(token): text for token, text in rest.get("lens_texts", {}).items()}
        return Trace(**arrays, **rest)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a trace as Trace.save writes it: {error}") from error


_AXES: dict[str, tuple[str, ...]] = {
    "token_ids": ("pos",),
    "logprobs": ("pos",),
    "router_logits": ("layer", "pos", "expert"),
    "expert_indices": ("layer", "pos", "rank"),
    "topk_weights": ("layer", "pos", "rank"),
    "alternatives": ("pos", "choice"),
    "alternative_logprobs": ("pos", "choice"),
    "patterns": ("attention_layer", "attention_head", "pos", "k_pos"),
    "sinks": ("attention_layer", "attention_head", "pos"),
    "residual": ("point", "pos", "d_model"),
    "expert_out": ("expert_out_layer", "pos", "rank", "d_model"),
    "z": ("z_layer", "pos", "head", "d_head"),
    "lens_tokens": ("lens_point", "pos", "lens_choice"),
    "lens_logprobs": ("lens_point", "pos", "lens_choice"),
    "lens_entropy": ("lens_point", "pos"),
    "lens_rank": ("lens_point", "pos"),
    "lens_logprob": ("lens_point", "pos"),
    "lens_kl": ("lens_point", "pos"),
}
"""The arrays of a trace, and their axes."""

_TUPLES = {"attention_layers", "attention_heads", "residual_points", "expert_out_layers", "z_layers", "lens_points"}
