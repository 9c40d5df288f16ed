"""Direct logit attribution: what each head and each expert adds to a token's logit by itself.

The residual stream is a sum: the embedding, what every head wrote, what every expert wrote. A logit is that sum,
divided by its root mean square, in the token's direction (its row of the unembedding times the final norm's gain). Take
the divisor as it is, and the logit is a sum too. What a part does by changing other parts, or the divisor, is not
counted.

Elhage et al., "A Mathematical Framework for Transformer Circuits" (2021).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gptoss_lab.config import ModelConfig
from gptoss_lab.trace import Trace
from gptoss_lab.weights import Weights

if TYPE_CHECKING:
    import pandas as pd

NOWHERE = -1
"""Stands where a part has no layer, or no number within it."""


def logit_attribution(
    trace: Trace,
    weights: Weights,
    config: ModelConfig,
    positions: int | Sequence[int],
    tokens: int | Sequence[int] | None = None,
    versus: int | Sequence[int] | None = None,
) -> "pd.DataFrame":
    """What each part of the model adds to the logit of the next token: a row for each position and part.

    trace: of the model of these weights, with record=("residual",), all layers. With "z" in it too, attention is
        divided between heads; with "experts", what a layer's experts wrote is divided between those that were chosen.
    positions: the tokens after which the model is asked.
    tokens: whose logit, one for all or one for each; the token that really came next where not given.
    versus: whose logit is taken off, if any. What is left decides between the two; a single logit also holds what all
        tokens share, which changes no probability.

    Columns: position; token; layer (-1 for none); component; index (of the head or expert; -1 for none); logit, what
    the part adds. Components: "embedding"; "head" and "attention bias", or "attention" where it is not divided;
    "expert", or "experts" where they are not divided; "other", what rounding leaves and edits added. A position's rows
    sum to the logit that the model gave (less that of `versus`).

    Raises ValueError where the residual stream was not recorded at all layers, for positions and tokens that are not
    there, and a last position without a token; and for weights of another shape.
    """
    import pandas as pd

    asked = np.atleast_1d(np.asarray(positions, dtype=np.int64))
    wanted = _tokens(trace, asked, tokens, config)
    streams = _Streams.of(trace, config, asked)
    directions = _directions(weights, wanted)
    if versus is not None:
        directions = directions - _directions(weights, _tokens(trace, asked, versus, config))
    directions /= np.sqrt((streams.end**2).mean(axis=1, keepdims=True) + config.norm_eps)

    parts = list(_parts(trace, weights, config, asked, streams, directions))
    known = np.sum([part.logit for part in parts], axis=0)
    nowhere = np.full(len(asked), NOWHERE)
    parts.append(_Part(NOWHERE, "other", nowhere, (streams.end * directions).sum(axis=1) - known))
    return pd.DataFrame(
        {
            "position": np.tile(asked, len(parts)),
            "token": np.tile(wanted, len(parts)),
            "layer": np.repeat([part.layer for part in parts], len(asked)),
            "component": np.repeat([part.component for part in parts], len(asked)),
            "index": np.concatenate([part.index for part in parts]),
            "logit": np.concatenate([part.logit for part in parts]),
        }
    ).sort_values("position", kind="stable", ignore_index=True)


@dataclass(frozen=True)
class _Part:
    """What one part of the model adds at every position asked."""

    layer: int
    component: str
    index: NDArray[np.int64]  # [position]
    logit: NDArray[np.float64]  # [position]


@dataclass(frozen=True)
class _Streams:
    """The residual stream where it was asked for, [position, d_model] each."""

    start: NDArray[np.float64]
    middle: list[NDArray[np.float64]]  # [layer], after attention
    after: list[NDArray[np.float64]]  # [layer]

    @property
    def end(self) -> NDArray[np.float64]:
        return self.after[-1]

    @classmethod
    def of(cls, trace: Trace, config: ModelConfig, positions: NDArray[np.int64]) -> "_Streams":
        points = {name: number for number, name in enumerate(trace.residual_points)}
        middle = [f"blocks.{layer}.hook_resid_mid" for layer in range(config.n_layers)]
        after = [f"blocks.{layer}.hook_resid_post" for layer in range(config.n_layers)]
        start = "blocks.0.hook_resid_pre"
        if trace.residual is None or not {start, *middle, *after} <= points.keys():
            raise ValueError(
                f'the residual stream must be recorded at all {config.n_layers} layers: record=("residual",)'
            )
        if trace.residual.shape[2] != config.d_model:
            raise ValueError(f"the trace has d_model {trace.residual.shape[2]}, and the weights {config.d_model}")

        def at(name: str) -> NDArray[np.float64]:
            assert trace.residual is not None
            return trace.residual[points[name], positions].astype(np.float64)

        return cls(at(start), [at(name) for name in middle], [at(name) for name in after])


def _parts(
    trace: Trace,
    weights: Weights,
    config: ModelConfig,
    positions: NDArray[np.int64],
    streams: _Streams,
    directions: NDArray[np.float64],
) -> Iterator[_Part]:
    """All parts that are known, from the first to the last."""
    nowhere = np.full(len(positions), NOWHERE)
    yield _Part(NOWHERE, "embedding", nowhere, (streams.start * directions).sum(axis=1))
    before = streams.start
    for layer, (middle, after) in enumerate(zip(streams.middle, streams.after, strict=True)):
        if trace.z is not None and layer in trace.z_layers:
            z = trace.z[trace.z_layers.index(layer), positions]
            yield from _heads(layer, z, weights, directions)
        else:
            yield _Part(layer, "attention", nowhere, ((middle - before) * directions).sum(axis=1))
        if trace.expert_out is not None and layer in trace.expert_out_layers:
            shares = trace.expert_out[trace.expert_out_layers.index(layer), positions]
            for rank in range(shares.shape[1]):
                chosen = trace.expert_indices[layer, positions, rank]
                yield _Part(layer, "expert", chosen, (shares[:, rank] * directions).sum(axis=1))
        else:
            yield _Part(layer, "experts", nowhere, ((after - middle) * directions).sum(axis=1))
        before = after


def _heads(layer: int, z: NDArray[np.float32], weights: Weights, directions: NDArray[np.float64]) -> Iterator[_Part]:
    """What each head of a layer adds, and the bias of what brings them together. z: [position, head, d_head]."""
    of_layer = weights.layers[layer]
    output = of_layer.o.detach().float().cpu().numpy()
    sought = (directions @ output).reshape(z.shape)  # what a head must read to move the stream in each direction
    logits = (z * sought).sum(axis=2)
    for head in range(z.shape[1]):
        yield _Part(layer, "head", np.full(len(z), head), logits[:, head])
    bias = of_layer.o_bias.detach().double().cpu().numpy()
    yield _Part(layer, "attention bias", np.full(len(z), NOWHERE), directions @ bias)


def _directions(weights: Weights, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    """Where the residual stream must go for each token's logit to grow, before its length is taken off."""
    rows = weights.unembedding[tokens.tolist()].detach().double().cpu().numpy()
    return rows * weights.final_norm.detach().double().cpu().numpy()


def _tokens(
    trace: Trace, positions: NDArray[np.int64], tokens: int | Sequence[int] | None, config: ModelConfig
) -> NDArray[np.int64]:
    """The token that is asked for at each position."""
    n = len(trace.token_ids)
    if len(positions) == 0 or (positions < 0).any() or (positions >= n).any():
        raise ValueError(f"positions run from 0 to {n - 1}; got {positions.tolist()}")
    if tokens is None:
        if (positions == n - 1).any():
            raise ValueError(f"nothing is known to follow position {n - 1}, the last: say which token's logit, tokens=")
        return trace.token_ids[positions + 1]
    wanted = np.asarray(tokens, dtype=np.int64)
    if wanted.ndim > 1 or (wanted.ndim == 1 and len(wanted) != len(positions)):
        raise ValueError(f"expected one token, or one for each of {len(positions)} positions; got {tokens!r}")
    if (wanted < 0).any() or (wanted >= config.d_vocab).any():
        raise ValueError(f"token ids run from 0 to {config.d_vocab - 1}; got {tokens!r}")
    return np.broadcast_to(wanted, positions.shape)
