"""All layers of a model and its unembedding, for a few tokens at a time, as one list of steps: launches from Python,
one by one, would take a third of the time that a token does.

What hooks may want to see is kept for every layer, and given afterwards. What they may want to change, and what only
comes about where somebody asks for it, goes through the operations one by one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gptoss_lab.config import ModelConfig
from gptoss_lab.ops import Context, attention_kernels, dot_kernels, row_kernels
from gptoss_lab.ops.attention_kernels import Attention, Blend
from gptoss_lab.ops.formats import MXFP4
from gptoss_lab.ops.place import Place
from gptoss_lab.ops.products import Groups, Matrices, Rows, address_of, dots_job, stored
from gptoss_lab.ops.row_kernels import Choice, Grouping, Keeping, Norm, Rotation, Sum
from gptoss_lab.ops.steps import Step, Steps
from gptoss_lab.ops.threads import lock, threads
from gptoss_lab.weights import LayerWeights, Weights

_FAR = 64  # positions, after which attention is weighed anew
_MOST_PROGRAMS = 4  # that are kept: for sixteen tokens of gpt-oss-20b one takes 30 MB


class Layers:
    """The layers of one model, and what comes after them."""

    most = 16
    """Tokens, of all sequences together, that may go this way."""
    points = (
        "hook_resid_pre",
        "attn.hook_sink",
        "attn.hook_pattern",
        "attn.hook_z",
        "hook_resid_mid",
        "mlp.hook_router_logits",
        "mlp.hook_expert_indices",
        "mlp.hook_topk_weights",
        "mlp.hook_expert_out",
        "hook_resid_post",
    )
    """What can be seen, named and in the order as in `gptoss_lab.hooks`."""

    def __init__(self, config: ModelConfig, weights: Weights):
        self._config, self._weights = config, weights
        self._programs: dict[tuple[int, int, bool, int, tuple[int, ...]], _Program] = {}

    def run(
        self,
        residual: Tensor,
        angles: tuple[Tensor, Tensor],
        context: Callable[[int], Context],
        wanted: Mapping[str, Sequence[int]],
        last_only: bool,
    ) -> tuple[Tensor, dict[tuple[str, int], Tensor]]:
        """See `gptoss_lab.ops.Layers`."""
        batch, pos, _ = residual.shape
        with lock:
            watched = tuple(sorted({*wanted.get("attn.hook_pattern", ()), *wanted.get("attn.hook_sink", ())}))
            key = (batch, pos, last_only, threads(), watched)
            if key not in self._programs:
                if len(self._programs) == _MOST_PROGRAMS:
                    del self._programs[next(iter(self._programs))]
                self._programs[key] = _Program(self._config, self._weights, context, batch, pos, last_only, watched)
            return self._programs[key].run(residual, angles, context(0), wanted)


class _Program:
    """The steps for so many sequences and positions, and the memory that they work in.

    watched: layers whose attention patterns are asked for.
    """

    def __init__(
        self,
        config: ModelConfig,
        weights: Weights,
        context: Callable[[int], Context],
        batch: int,
        pos: int,
        last_only: bool,
        watched: Sequence[int],
    ):
        self._watched = watched
        self._config, self._batch, self._pos, self._n = config, batch, pos, batch * pos
        self._weights = weights  # whose addresses the jobs hold
        self._read_out = torch.arange(self._n).reshape(batch, pos)[:, -1 if last_only else 0 :].contiguous()
        self._make_room()
        steps = [step for i, layer in enumerate(weights.layers) for step in self._layer(i, layer, context(i))]
        steps += self._ending()
        self._steps = Steps(steps)
        self._find_fields(steps)

    def _find_fields(self, steps: Sequence[Step]) -> None:
        """The jobs' fields that differ from run to run."""
        jobs = [step.jobs[0] for step in steps]
        attentions = {i: job for i, job in enumerate(jobs) if isinstance(job, Attention)}
        looks = [i for i in attentions if steps[i].kernel is attention_kernels.look]
        sharing = [i for i in attentions if len(steps[i].jobs) == 2]
        field = self._steps.field
        self._end_of_shared, self._first_not_shared = field(sharing, "end_key", 0), field(sharing, "first_key", 1)
        self._pattern, self._pattern_width = (field(looks, name) for name in ("z", "end_key"))
        self._logits = field([len(steps) - 1], "out")
        self._attentions = list(attentions)
        self._windows = np.array([job.window for job in attentions.values()])
        self._weighed_for = -1

    def run(
        self,
        residual: Tensor,
        angles: tuple[Tensor, Tensor],
        context: Context,
        wanted: Mapping[str, Sequence[int]],
    ) -> tuple[Tensor, dict[tuple[str, int], Tensor]]:
        self._residual[0].copy_(residual)
        logits = torch.empty(*self._read_out.shape, self._weights.unembedding.shape[0])
        self._logits.set(logits.data_ptr())
        self._go_to(angles, context)
        seen = self._patterns(context.start + self._pos)
        self._steps.run()
        for layer in self._watched:
            sinks = self._weights.layers[layer].sinks
            seen["attn.hook_sink", layer] = (sinks - self._logs[layer]).exp().transpose(1, 2)
        for point in wanted.keys() & self._seen.keys():
            copies = self._seen[point][list(wanted[point])]  # the next run writes in the same place
            seen |= {(point, layer): copy for layer, copy in zip(wanted[point], copies, strict=True)}
        return logits, seen

    def _patterns(self, n_keys: int) -> dict[tuple[str, int], Tensor]:
        """Memory for the attention patterns, which the jobs are told of."""
        shape = (self._batch, self._config.n_heads, self._pos, n_keys)
        patterns = [torch.zeros(shape) for _ in self._watched]
        self._pattern.set([pattern.data_ptr() for pattern in patterns])
        self._pattern_width.set(n_keys)
        return {("attn.hook_pattern", layer): one for layer, one in zip(self._watched, patterns, strict=True)}

    def _go_to(self, angles: tuple[Tensor, Tensor], context: Context) -> None:
        """Tells the jobs at which positions the tokens stand."""
        tables, (cos, sin) = context.tables, angles
        self._place[:] = Place(context.start, tables.ctypes.data, tables.shape[1], cos.data_ptr(), sin.data_ptr())
        if self._batch > 1:
            n_shared = _n_shared(context)
            self._end_of_shared.set(n_shared)
            self._first_not_shared.set(n_shared)
        if self._weighed_for != context.start // _FAR:
            self._weigh_attention(context.start)

    def _weigh_attention(self, start: int) -> None:
        self._weighed_for = start // _FAR
        n_keys = np.minimum(start, self._windows) + self._pos
        self._steps.weigh(self._attentions, 2 * self._n * self._config.n_heads * self._config.d_head * n_keys)

    def _make_room(self) -> None:
        c, n, k = self._config, self._n, self._config.experts_per_token

        def in_layers(*shape: int, n_layers: int = c.n_layers, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.empty(n_layers, self._batch, self._pos, *shape, dtype=dtype)

        self._place = np.zeros(len(Place._fields), dtype=np.int64)
        self._residual = in_layers(c.d_model, n_layers=c.n_layers + 1)
        self._seen = {
            "hook_resid_pre": self._residual[:-1],
            "hook_resid_mid": in_layers(c.d_model),
            "hook_resid_post": self._residual[1:],
            "attn.hook_z": in_layers(c.n_heads, c.d_head),
            "mlp.hook_router_logits": in_layers(c.n_experts),
            "mlp.hook_expert_indices": in_layers(k, dtype=torch.int64),
            "mlp.hook_topk_weights": in_layers(k),
            "mlp.hook_expert_out": in_layers(k, c.d_model),
        }
        self._x = torch.empty(n, c.d_model)
        self._q, self._k, self._v = (torch.empty(n, m * c.d_head) for m in (c.n_heads, c.n_kv_heads, c.n_kv_heads))
        self._hidden = torch.empty(n * k, c.d_mlp)
        self._all, self._all_read_out = torch.tensor([0, n]), torch.tensor([0, self._read_out.numel()])
        # Pairs of token and rank, by expert.
        self._starts, self._pairs, self._tokens = torch.empty(c.n_experts + 1 + 2 * n * k, dtype=torch.int64).split(
            [c.n_experts + 1, n * k, n * k]
        )
        widest = max(c.d_model, c.n_heads * c.d_head, c.d_mlp)
        self._vectors = torch.empty(n * k * dot_kernels.most_vector_floats(widest))
        blocks = attention_kernels.n_blocks(self._batch, self._pos, c.n_heads, c.n_kv_heads)
        self._n_splits = -(-threads() // blocks)
        self._partial = torch.empty(blocks * self._n_splits * attention_kernels.partial_floats(c.d_head))
        # For sequences that share keys: what each finds among its own.
        self._other_partial = torch.empty_like(self._partial)
        self._other = torch.empty(n, c.n_heads, c.d_head)
        self._logs = torch.empty(c.n_layers, self._batch, self._pos, c.n_heads)
        self._other_logs = torch.empty(n, c.n_heads)
        n_own = max(dot_kernels.scratch_floats(threads()), attention_kernels.scratch_floats(c.d_head, threads()))
        self._own = torch.empty(n_own + 1024)

    # A layer, as `gptoss_lab.model` has it

    def _layer(self, i: int, weights: LayerWeights, context: Context) -> Iterator[Step]:
        pre, mid, post = (self._seen[f"hook_resid_{name}"][i].data_ptr() for name in ("pre", "mid", "post"))
        yield self._norm(pre, weights.attn_norm)
        yield from self._attention(i, weights, context, pre, mid)
        yield self._norm(mid, weights.mlp_norm)
        yield from self._experts(i, weights, mid, post)

    def _ending(self) -> Iterator[Step]:
        yield self._norm(self._residual[-1].data_ptr(), self._weights.final_norm)
        count = self._all_read_out.data_ptr()
        x = Rows(self._x.data_ptr(), self._read_out.data_ptr())
        yield from self._dots([stored(self._weights.unembedding, None)], Groups(0, count, count + 8, 1), x, [Rows(0)])

    def _norm(self, residual: int, gain: Tensor) -> Step:
        d_model, eps = self._config.d_model, self._config.norm_eps
        return Step(
            row_kernels.rms_norm, [Norm(residual, address_of(gain), self._x.data_ptr(), self._n, d_model, eps)], 0
        )

    def _attention(self, i: int, weights: LayerWeights, context: Context, pre: int, mid: int) -> Iterator[Step]:
        c, window = self._config, self._config.window(i) or self._config.n_ctx
        q, k, v, z = (tensor.data_ptr() for tensor in (self._q, self._k, self._v, self._seen["attn.hook_z"][i]))
        matrices = [
            stored(weights.q, weights.q_bias),
            stored(weights.k, weights.k_bias),
            stored(weights.v, weights.v_bias),
        ]
        yield from self._dense(matrices, self._x.data_ptr(), [q, k, v])
        place = self._place.ctypes.data
        turned = [(q, c.n_heads), (k, c.n_kv_heads)]
        yield Step(
            row_kernels.rotate,
            [Rotation(x, place, x, self._n, self._pos, n_heads, c.d_head // 2) for x, n_heads in turned],
            0,
        )
        where = (place, context.piece_length, context.key_offset, context.value_offset)
        yield Step(row_kernels.keep, [Keeping(k, v, self._batch, self._pos, c.n_kv_heads, c.d_head, *where)], 0)
        heads = (c.n_heads, c.n_kv_heads, c.d_head, c.d_head**-0.5, address_of(weights.sinks), window)
        everything = (0, 2 * c.n_ctx, 1, self._logs[i].data_ptr())
        memory = (self._n_splits, self._partial.data_ptr(), _aligned(self._own))
        attention = Attention(q, z, self._batch, self._pos, *heads, *where, *everything, *memory)
        if self._batch > 1 and self._config.window(i) is None and i not in self._watched:
            yield from self._attention_to_shared_keys(attention)
        else:
            yield Step(attention_kernels.attend, [attention], 0)
            if self._n_splits > 1:
                yield Step(attention_kernels.merge, [attention], 0)
            if i in self._watched:
                yield Step(attention_kernels.look, [attention], 0)
        yield from self._dense([stored(weights.o, weights.o_bias)], z, [mid], addends=pre)

    def _attention_to_shared_keys(self, attention: Attention) -> Iterator[Step]:
        """What all sequences share comes first, read once for all of them; then what each has of its own."""
        logs, other_logs = attention.logs, self._other_logs.data_ptr()
        shared = attention._replace(
            batch=1, pos=self._n, window=2 * self._config.n_ctx, n_splits=1, partial=self._partial.data_ptr()
        )
        own = attention._replace(
            z=self._other.data_ptr(), sink=0, logs=other_logs, n_splits=1, partial=self._other_partial.data_ptr()
        )
        yield Step(attention_kernels.attend, [shared, own], 0)
        n, d_head = self._n * self._config.n_heads, self._config.d_head
        blend = Blend(attention.z, self._other.data_ptr(), logs, other_logs, n, d_head)
        yield Step(attention_kernels.blend, [blend], n * d_head)

    def _experts(self, i: int, weights: LayerWeights, mid: int, post: int) -> Iterator[Step]:
        c, n, k = self._config, self._n, self._config.experts_per_token
        logits, indices, shares_of, shares = (
            self._seen[f"mlp.hook_{name}"][i].data_ptr()
            for name in ("router_logits", "expert_indices", "topk_weights", "expert_out")
        )
        yield from self._dense([stored(weights.router, weights.router_bias)], self._x.data_ptr(), [logits])
        yield Step(row_kernels.choose, [Choice(logits, n, c.n_experts, k, indices, shares_of)], 0)
        starts, pairs, tokens = (part.data_ptr() for part in (self._starts, self._pairs, self._tokens))
        yield Step(row_kernels.group_by_expert, [Grouping(indices, n * k, c.n_experts, k, starts, pairs, tokens)], 0)
        groups = Groups(0, starts, starts + 8, c.n_experts)
        x, hidden, out = Rows(self._x.data_ptr(), tokens), Rows(self._hidden.data_ptr()), Rows(shares, pairs)
        yield from self._dots(
            [stored(weights.gate_up, weights.gate_up_bias)], groups, x, [hidden], swiglu_limit=c.swiglu_limit
        )
        yield from self._dots([stored(weights.down, weights.down_bias)], groups, hidden, [out], factors=shares_of)
        yield Step(row_kernels.add_up, [Sum(mid, shares, post, n, k, c.d_model)], 4 * n * k * c.d_model)

    def _dense(self, matrices: Sequence[Matrices], x: int, outs: Sequence[int], addends: int = 0) -> Iterator[Step]:
        """All tokens meet each of the matrices."""
        groups = Groups(0, self._all.data_ptr(), self._all.data_ptr() + 8, 1)
        return self._dots(matrices, groups, Rows(x), [Rows(out) for out in outs], addends=addends)

    def _dots(
        self, matrices: Sequence[Matrices], groups: Groups, x: Rows, outs: Sequence[Rows], **options: Any
    ) -> Iterator[Step]:
        """Matrices of one width, which meet the same vectors."""
        formats = {one.format for one in matrices}
        # The order of vectors depends on the format, and for MXFP4 on the height too.
        if len(matrices) > 1 and (len(formats) > 1 or MXFP4 in formats):
            for one, out in zip(matrices, outs, strict=True):
                yield from self._dots([one], groups, x, [out], **options)
            return
        n = self._n if groups.n == 1 else self._n * self._config.experts_per_token
        jobs = [
            dots_job(one, groups, x, out, self._vectors.data_ptr(), _aligned(self._own), **options)
            for one, out in zip(matrices, outs, strict=True)
        ]
        yield Step(dot_kernels.spread, jobs[:1], 4 * n * matrices[0].n_in)
        yield Step(dot_kernels.dots, jobs, n * matrices[0].n_in * sum(one.n_out for one in matrices))


def _n_shared(context: Context) -> int:
    """Keys at the beginning that all sequences have in the same place."""
    differs = (context.tables != context.tables[0]).any(axis=0)
    n_pieces = int(differs.argmax()) if differs.any() else len(differs)
    return min(n_pieces * context.piece_length, context.start)


def _aligned(memory: Tensor) -> int:
    return -(-memory.data_ptr() // 4096) * 4096
