"""gpt-oss in one sitting: token ids in, logits out, and each hook point where it fires.

Architecture: gpt-oss model card (arXiv 2508.10925, section 2); reference: openai/gpt-oss, gpt_oss/torch/model.py.
Axes: batch, pos (new tokens), k_pos (all tokens so far), head, kv_head, d_head, d_model, expert, k (chosen experts).
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from gptoss_lab.cache import KVCache, LayerContext, Pass
from gptoss_lab.config import ModelConfig
from gptoss_lab.hooks import (
    SILENT,
    ActivationCache,
    HookFunction,
    HookPoint,
    Listener,
    NamesFilter,
    Registered,
    only_observed,
    register,
)
from gptoss_lab.ops import Precision, operations, torch_ops
from gptoss_lab.rotary import RotaryTable
from gptoss_lab.weights import LayerWeights, Weights, in_int8

Tokens = Sequence[int] | Sequence[Sequence[int]] | Tensor
Dense = Literal["int8"]
FwdHooks = Sequence[tuple[NamesFilter, HookFunction]]

CHUNK = 512
"""Tokens of a prompt that go through the layers together; with hooks the whole prompt does."""


class Stopped(Exception):
    """A forward pass was asked to stop."""


def never() -> bool:
    """The answer of those who do not want to stop."""
    return False


class Transformer:
    """A gpt-oss model over either engine.

    engine: "numba" (the default on a CPU: fast, no gradients) or "torch" (any device, differentiable).
    precision: "float32", or "bfloat16", which rounds what goes into the projections, the experts and the unembedding to
        bfloat16, as OpenAI's reference does; sums, the router and attention stay in float32. On a CPU with AVX512_BF16
        prompts are then read about twice as fast. The numba engine rounds only where more than four tokens meet a
        matrix: generating is no faster for it, and stays in float32.

    dense: None runs attention's projections and the unembedding as they are stored; "int8" makes a copy of them in
        eight bits, in blocks of 32 with a scale each (1.3 GB for gpt-oss-20b, made in some seconds), so that a
        generated token takes about a third less time. What that costs, `gptoss_lab.experiments.rounding` tells. The
        routers stay as stored, and `weights` too: what reads weights instead of running them sees the stored ones.

    Raises ValueError for an engine, a precision or a kind of dense weights that there is not, or not on this machine.
    """

    def __init__(
        self,
        config: ModelConfig,
        weights: Weights,
        engine: str | None = None,
        device: torch.device | str = "cpu",
        precision: Precision = "float32",
        dense: Dense | None = None,
    ):
        self.config = config
        self.device = torch.device(device)
        self.engine = engine or ("numba" if self.device.type == "cpu" else "torch")
        if self.engine == "numba" and self.device.type != "cpu":
            raise ValueError(f"engine 'numba' runs on a CPU, not on {self.device}; choose engine='torch' there")
        if dense not in (None, "int8"):
            raise ValueError(f"dense weights run as stored (None) or in 'int8', not in {dense!r}")
        self.dense = dense
        self.weights = weights.to(self.device)
        self._running = in_int8(self.weights) if dense == "int8" else self.weights
        self.precision = precision
        self.ops = operations(self.engine, precision)
        self._at_once = self.ops.layers_at_once(config, self._running)
        self._rotary = RotaryTable(config, self.device)
        # A variable of its own for every thread, so that one thread's hooks never see another's forward pass.
        self._hooks: contextvars.ContextVar[Registered] = contextvars.ContextVar("hooks")

    # What people call

    def __call__(
        self,
        tokens: Tokens,
        cache: KVCache | Sequence[KVCache] | None = None,
        *,
        last_only: bool = False,
        should_stop: Callable[[], bool] = never,
    ) -> Tensor:
        """Logits, float32 [batch, pos, d_vocab], or [batch, 1, d_vocab] of the last position only.

        tokens: ids, as a list, a list of equally long lists, or an integer tensor [pos] or [batch, pos].
        cache: what went before, one `KVCache` a sequence (all of one length); the new positions are added to it.
        should_stop: asked between layers, and once for a few tokens that take all layers at once; where it says yes,
            `Stopped` is raised and the caches are as they were.
        Raises ValueError for an empty prompt, ids outside the vocabulary, sequences of unequal length, and a prompt
        longer than the context.
        """
        ids = self._token_tensor(tokens)
        caches = self._caches(cache, ids)
        registered = self._hooks.get({})
        chunks = [ids] if registered or ids.shape[1] <= CHUNK else ids.split(CHUNK, dim=1)
        start = caches[0].length
        try:
            logits = [self._forward(chunk, caches, registered, last_only, should_stop) for chunk in chunks]
        except BaseException:  # an interrupt too leaves the caches as they were
            for one in caches:
                one.rewind(start)
            raise
        return logits[-1] if last_only or len(logits) == 1 else torch.cat(logits, dim=1)

    def new_cache(self) -> KVCache:
        """An empty key-value cache for one sequence."""
        return KVCache(self.config, self.device)

    @property
    def running(self) -> Weights:
        """The weights that compute: the stored ones, or some of them in eight bits; see `dense`."""
        return self._running

    def unembed(self, residual: Tensor) -> Tensor:
        """The logits that a residual stream [..., d_model] would give if it went straight to the end (a logit lens)."""
        normalized = self.ops.rms_norm(residual, self._running.final_norm, self.config.norm_eps)
        return self._project(normalized, self._running.unembedding)

    def run_with_hooks(
        self, tokens: Tokens, fwd_hooks: FwdHooks, cache: KVCache | Sequence[KVCache] | None = None
    ) -> Tensor:
        """Logits of a run with the given hooks, `(name or pattern, function)` pairs."""
        with self.hooks(fwd_hooks):
            return self(tokens, cache)

    def run_with_cache(
        self,
        tokens: Tokens,
        names_filter: NamesFilter = None,
        cache: KVCache | Sequence[KVCache] | None = None,
    ) -> tuple[Tensor, ActivationCache]:
        """Logits, and what passed at the selected hook points (all of them, where no filter is given)."""
        seen = ActivationCache()

        def record(tensor: Tensor, hook: HookPoint) -> None:
            seen[hook.name] = tensor

        return self.run_with_hooks(tokens, [(names_filter, record)], cache), seen

    @contextlib.contextmanager
    def hooks(self, fwd_hooks: FwdHooks) -> Iterator["Transformer"]:
        """Hooks that are active in every run within the `with` block, in this thread; blocks may be nested."""
        before = self._hooks.get({})
        added = register(fwd_hooks, self.config)
        merged = {name: [*before.get(name, ()), *added.get(name, ())] for name in {**before, **added}}
        token = self._hooks.set(merged)
        try:
            yield self
        finally:
            self._hooks.reset(token)

    # The architecture

    def _forward(
        self,
        tokens: Tensor,
        caches: Sequence[KVCache],
        registered: Registered,
        last_only: bool,
        should_stop: Callable[[], bool],
    ) -> Tensor:
        """tokens [batch, pos] -> logits [batch, pos, d_vocab]."""
        positions = range(caches[0].length, caches[0].length + tokens.shape[1])
        hook = Listener(registered, positions, _so_far(caches, tokens)) if registered else SILENT
        residual = hook("hook_embed", functional.embedding(tokens, self._running.embedding).float())
        angles = self._rotary.at(positions)
        with Pass(caches, tokens.shape[1]) as forward_pass:
            forward_pass.note(tokens)
            if self._goes_at_once(tokens, registered):
                return self._run_at_once(residual, angles, forward_pass, hook, last_only, should_stop)
            residual = self._layers(residual, angles, forward_pass, hook, should_stop)
        normalized = self._norm("ln_final", residual, self._running.final_norm, hook)
        if last_only:
            normalized = normalized[:, -1:].contiguous()
        return self._project(normalized, self._running.unembedding)

    def _layers(
        self,
        residual: Tensor,
        angles: tuple[Tensor, Tensor],
        forward_pass: Pass,
        hook: Listener,
        should_stop: Callable[[], bool],
    ) -> Tensor:
        """The residual stream [batch, pos, d_model] through all layers."""
        for layer in range(self.config.n_layers):
            if should_stop():
                raise Stopped
            residual = self._block(layer, residual, angles, forward_pass, hook.at(layer))
        return residual

    def _block(
        self, layer: int, residual: Tensor, angles: tuple[Tensor, Tensor], forward_pass: Pass, hook: Listener
    ) -> Tensor:
        """One layer: attention, then experts, each added to the residual stream [batch, pos, d_model]."""
        weights = self._running.layers[layer]

        residual = hook("hook_resid_pre", residual)
        x = self._norm("ln1", residual, weights.attn_norm, hook)
        residual = residual + hook("hook_attn_out", self._attention(layer, x, angles, forward_pass, hook))

        residual = hook("hook_resid_mid", residual)
        x = self._norm("ln2", residual, weights.mlp_norm, hook)
        residual = residual + hook("hook_mlp_out", self._experts(x, weights, hook))
        return hook("hook_resid_post", residual)

    def _norm(self, name: str, x: Tensor, gain: Tensor, hook: Listener) -> Tensor:
        """RMSNorm, in two steps where somebody watches."""
        if not hook.wants(f"{name}.hook_scale", f"{name}.hook_normalized"):
            return self.ops.rms_norm(x, gain, self.config.norm_eps)
        scale = hook(f"{name}.hook_scale", torch_ops.rms(x, self.config.norm_eps))
        return hook(f"{name}.hook_normalized", x / scale) * gain

    def _attention(
        self, layer: int, x: Tensor, angles: tuple[Tensor, Tensor], forward_pass: Pass, hook: Listener
    ) -> Tensor:
        """Grouped-query attention with a sink in every head; even layers see a window."""
        weights, d_head = self._running.layers[layer], self.config.d_head

        def heads(weight: Tensor, bias: Tensor) -> Tensor:
            return self._project(x, weight, bias).unflatten(-1, (-1, d_head))

        q = hook("attn.hook_q", heads(weights.q, weights.q_bias))
        k = hook("attn.hook_k", heads(weights.k, weights.k_bias))
        v = hook("attn.hook_v", heads(weights.v, weights.v_bias))
        q = hook("attn.hook_rot_q", self.ops.rotate(q, *angles))
        k = hook("attn.hook_rot_k", self.ops.rotate(k, *angles))
        context = forward_pass.extend(layer, k, v)
        z = hook("attn.hook_z", self._mix(q, context, weights.sinks, self.config.window(layer), hook))
        return self._project(z.flatten(-2), weights.o, weights.o_bias)

    def _mix(self, q: Tensor, context: LayerContext, sinks: Tensor, window: int | None, hook: Listener) -> Tensor:
        """What each head reads, z [batch, pos, head, d_head]; the pattern is only made where somebody watches."""
        if not hook.wants("attn.hook_attn_scores", "attn.hook_pattern", "attn.hook_sink"):
            return self.ops.attention(q, context, sinks, window)
        keys, values = context.tensors()
        scores = hook("attn.hook_attn_scores", torch_ops.attention_scores(q, keys, context.start, window))
        pattern, sink = torch_ops.softmax_with_sink(scores, sinks)
        hook("attn.hook_sink", sink)
        return torch_ops.mix_values(hook("attn.hook_pattern", pattern), values).contiguous()

    def _experts(self, x: Tensor, weights: LayerWeights, hook: Listener) -> Tensor:
        """Mixture of experts: the router's k largest logits choose, a softmax over those k weighs."""
        logits = hook("mlp.hook_router_logits", self.ops.linear(x, weights.router, weights.router_bias))
        chosen = logits.topk(self.config.experts_per_token, dim=-1).indices
        chosen = self._experts_in_range(hook("mlp.hook_expert_indices", chosen))
        share_of = hook("mlp.hook_topk_weights", logits.gather(-1, chosen).softmax(dim=-1))
        if hook.wants("mlp.hook_expert_weights"):
            hook("mlp.hook_expert_weights", torch.zeros_like(logits).scatter(-1, chosen, share_of))
        shares = self.ops.expert_shares(
            x.flatten(0, 1),
            chosen.flatten(0, 1),
            share_of.flatten(0, 1),
            weights,
            self.config.swiglu_limit,
            self.precision,
        )
        return hook("mlp.hook_expert_out", shares.unflatten(0, x.shape[:2])).sum(dim=-2)

    def _project(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return self.ops.linear(x, weight, bias, self.precision)

    # A quicker way

    def _goes_at_once(self, tokens: Tensor, registered: Registered) -> bool:
        """Whether an engine takes these few tokens all the way at once, and nobody wants to intervene."""
        layers = self._at_once
        return layers is not None and tokens.numel() <= layers.most and only_observed(registered, layers.points)

    def _run_at_once(
        self,
        residual: Tensor,
        angles: tuple[Tensor, Tensor],
        forward_pass: Pass,
        hook: Listener,
        last_only: bool,
        should_stop: Callable[[], bool],
    ) -> Tensor:
        """From the residual stream that goes into the first layer to the logits. Observers are called at the end."""
        assert self._at_once is not None
        if should_stop():
            raise Stopped
        points, n_layers = self._at_once.points, self.config.n_layers
        wanted = hook.wanted(points, n_layers)
        logits, seen = self._at_once.run(residual, angles, forward_pass.context, wanted, last_only)
        for layer in range(n_layers if wanted else 0):
            at = hook.at(layer)
            for point in points:
                if layer in wanted.get(point, ()):
                    at(point, seen[point, layer])
        return logits

    # Checks

    def _experts_in_range(self, chosen: Tensor) -> Tensor:
        n_experts = self.config.n_experts
        if self._hooks.get({}) and (chosen.min() < 0 or chosen.max() >= n_experts):
            raise ValueError(
                f"a hook chose experts {chosen.min().item()} to {chosen.max().item()}; there are 0 to {n_experts - 1}"
            )
        return chosen

    def _token_tensor(self, tokens: Tokens) -> Tensor:
        """tokens as an int64 tensor [batch, pos] on the model's device."""
        try:
            ids = torch.as_tensor(tokens)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"tokens must be ids in a list, a list of equally long lists, or an integer tensor: {error}"
            ) from None
        if ids.numel() == 0:
            raise ValueError("the prompt is empty: give at least one token id")
        if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool:
            raise TypeError(f"token ids are integers; got a tensor of {ids.dtype}")
        if ids.dim() not in (1, 2):
            raise ValueError(f"tokens are [pos] or [batch, pos]; got a tensor of shape {tuple(ids.shape)}")
        numbers = ids.flatten().tolist()
        low, high = min(numbers), max(numbers)
        if low < 0 or high >= self.config.d_vocab:
            raise ValueError(f"token ids run from 0 to {self.config.d_vocab - 1}; got {low if low < 0 else high}")
        return (ids if ids.dim() == 2 else ids[None]).to(self.device, torch.int64)

    def _caches(self, cache: KVCache | Sequence[KVCache] | None, ids: Tensor) -> Sequence[KVCache]:
        batch, n_new = ids.shape
        if cache is None:
            caches: Sequence[KVCache] = [self.new_cache() for _ in range(batch)]
        else:
            caches = [cache] if isinstance(cache, KVCache) else cache
        lengths = {one.length for one in caches}
        if len(caches) != batch or len(set(map(id, caches))) != batch:
            raise ValueError(f"a batch of {batch} needs as many caches, each its own; got {len(caches)}")
        if len(lengths) > 1:
            raise ValueError(
                f"sequences of a batch must be equally long; their caches hold {sorted(lengths)} positions"
            )
        total = caches[0].length + n_new
        if total > self.config.n_ctx:
            raise ValueError(f"the prompt is longer than the context: {total} tokens, of {self.config.n_ctx}")
        return caches


def _so_far(caches: Sequence[KVCache], tokens: Tensor) -> Tensor:
    """The ids that the caches hold, and those that come now, [batch, pos]."""
    return torch.cat((torch.stack([cache.tokens for cache in caches]), tokens), dim=1)
