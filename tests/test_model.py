"""The model against transformers' eager GptOssForCausalLM in float32, and against itself by other roads."""

from dataclasses import replace

import pytest
import torch
from small import SHAPES, SMALL, in_transformers, tokens

from gptoss_lab import weights as weights_module
from gptoss_lab.model import CHUNK, Stopped, Transformer
from gptoss_lab.ops import ENGINES
from gptoss_lab.ops.target import BFLOAT16_DOTS

TOLERANCE = 1e-4  # of the largest logit
MARGIN = 1e-5  # router choices may differ where the margin is within rounding

engines = pytest.mark.parametrize("engine", ENGINES)
shapes = pytest.mark.parametrize("shape", SHAPES)


def close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = TOLERANCE) -> None:
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


def make(shape: str = "top 2", engine: str = "numba", *, packed: bool = True, **changes) -> Transformer:
    config = replace(SHAPES[shape], **changes)
    return Transformer(config, weights_module.random(config, seed=1, packed=packed), engine)


def choices_agree(ours: torch.Tensor, theirs: torch.Tensor, logits: torch.Tensor) -> None:
    """The same experts, as sets, wherever the margin between chosen and unchosen router logits exceeds MARGIN."""
    ranked = logits.sort(dim=-1, descending=True).values
    k = ours.shape[-1]
    clear = ranked[..., k - 1] - ranked[..., k] > MARGIN
    assert clear.any()
    assert torch.equal(ours.sort(dim=-1).values[clear], theirs.sort(dim=-1).values[clear])


@engines
@shapes
@pytest.mark.parametrize("packed", [True, False])
def test_logits_routes_and_patterns_are_those_of_transformers(shape: str, engine: str, packed: bool) -> None:
    ours = make(shape, engine, packed=packed)
    config = ours.config
    theirs = in_transformers(config, ours.weights)
    prompt = tokens(2, 5 * config.sliding_window + 3, config)
    routed: list[torch.Tensor] = []
    for layer in theirs.model.layers:
        layer.mlp.router.register_forward_hook(lambda module, inputs, output: routed.append(output))
    with torch.no_grad():
        expected = theirs(prompt, output_attentions=True)
    close(ours(prompt), expected.logits)
    logits, seen = ours.run_with_cache(prompt)
    close(logits, expected.logits)
    for layer in range(config.n_layers):
        pattern = seen[f"blocks.{layer}.attn.hook_pattern"]
        assert torch.allclose(pattern, expected.attentions[layer][..., : prompt.shape[1]], atol=1e-5)
        router_logits, _, chosen = (value.unflatten(0, prompt.shape) for value in routed[layer])
        close(seen[f"blocks.{layer}.mlp.hook_router_logits"], router_logits)
        choices_agree(seen[f"blocks.{layer}.mlp.hook_expert_indices"], chosen, router_logits)


@engines
@shapes
def test_cached_decoding_chunks_forks_and_rewinds_equal_one_pass(shape: str, engine: str) -> None:
    model = make(shape, engine)
    prompt = tokens(1, 150, model.config)
    whole = model(prompt)
    cache = model.new_cache()
    sizes = [70, 1, 1, 5, 61, 1, 11]  # across the pieces' border at 64 and 128
    parts = [model(part, cache) for part in prompt.split(sizes, dim=1)]
    close(torch.cat(parts, dim=1), whole)
    fork = cache.fork()
    fork.rewind(100)
    close(model(prompt[:, 100:], fork), whole[:, 100:])
    cache.rewind(3)
    close(model(prompt[:, 3:], cache), whole[:, 3:])
    assert cache.length == fork.length == 150


@engines
def test_activations_beyond_the_clamps_are_those_of_transformers(engine: str) -> None:
    model = make(engine=engine)
    layers = [replace(layer, gate_up_bias=100 * layer.gate_up_bias) for layer in model.weights.layers]
    weights = replace(model.weights, layers=tuple(layers))
    prompt = tokens(1, 10)
    with torch.no_grad():
        expected = in_transformers(SMALL, weights)(prompt).logits
    close(Transformer(SMALL, weights, engine)(prompt), expected)


@engines
def test_in_bfloat16_logits_are_near_those_in_float32(engine: str) -> None:
    if engine == "numba" and not BFLOAT16_DOTS:
        pytest.skip("no AVX512_BF16 here; a CPU that has it runs this")
    exact = make(engine=engine)
    rounded = Transformer(exact.config, exact.weights, engine, precision="bfloat16")
    prompt = torch.arange(64) % exact.config.d_vocab
    choices = exact.run_with_cache(prompt, "*.hook_expert_indices")[1]
    forced = [(name, lambda tensor, hook: choices[hook.name]) for name in choices]  # rounding may move a choice
    expected, logits = exact(prompt), rounded.run_with_hooks(prompt, forced)
    apart = ((logits - expected).square().mean() / expected.square().mean()).sqrt()
    assert 1e-4 < apart < 0.02


def test_precisions_that_there_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make()
    with pytest.raises(ValueError, match=r"no precision 'float16'; choose one of 'float32', 'bfloat16'"):
        Transformer(model.config, model.weights, precision="float16")  # type: ignore[arg-type]
    monkeypatch.setattr("gptoss_lab.ops.target.BFLOAT16_DOTS", False)
    with pytest.raises(ValueError, match=r"needs a CPU with AVX512_BF16.*choose precision='float32'"):
        Transformer(model.config, model.weights, precision="bfloat16")
    Transformer(model.config, model.weights, "torch", precision="bfloat16")


@engines
def test_a_long_prompt_goes_through_in_chunks(engine: str) -> None:
    model = make(engine=engine, n_layers=2)
    prompt = tokens(1, CHUNK + 40)
    whole, _ = model.run_with_cache(prompt, "hook_embed")  # with a hook it is not cut
    close(model(prompt), whole)
    close(model(prompt, last_only=True), whole[:, -1:])


@engines
def test_a_batch_gives_what_its_sequences_give_alone(engine: str) -> None:
    model = make("odd heads, wide experts", engine)
    prompts = tokens(3, 40, model.config)
    caches = [model.new_cache() for _ in prompts]
    together = torch.cat(
        [model(prompts[:, :33], caches), model(prompts[:, 33:34], caches), model(prompts[:, 34:], caches)], dim=1
    )
    for row, prompt in enumerate(prompts):
        close(together[row : row + 1], model(prompt))


def test_both_engines_agree_at_every_point() -> None:
    fast, plain = make("top 2", "numba"), make("top 2", "torch")
    prompt = tokens(2, 30, fast.config)
    (logits, seen), (expected, plainly) = fast.run_with_cache(prompt), plain.run_with_cache(prompt)
    close(logits, expected)
    assert list(seen) == list(plainly)
    for name, value in seen.items():
        finite = torch.isfinite(plainly[name])
        assert torch.equal(torch.isfinite(value), finite), name
        assert torch.allclose(value[finite], plainly[name][finite], atol=1e-4), name


@engines
def test_packed_experts_equal_the_same_experts_unpacked(engine: str) -> None:
    packed = make(engine=engine)
    plain = Transformer(packed.config, weights_module.unpack(packed.weights), engine)
    prompt = tokens(1, 30)
    close(packed(prompt), plain(prompt))


def test_the_torch_engine_carries_gradients_through_packed_experts_and_caches() -> None:
    model = make(engine="torch")
    cache = model.new_cache()
    prompt = tokens(1, 12)
    model(prompt[:, :5], cache)
    embedded = []

    def keep(tensor: torch.Tensor, hook: object) -> torch.Tensor:
        embedded.append(tensor.requires_grad_())
        return tensor

    logits = model.run_with_hooks(prompt[:, 5:], [("hook_embed", keep)], cache)
    logits[0, -1, 0].backward()
    gradient = embedded[0].grad
    assert gradient is not None
    assert (gradient[0].abs().sum(dim=-1) > 0).all()


@engines
@pytest.mark.parametrize("chunk", [100, 20])
def test_stopping_midway_leaves_caches_as_they_were(engine: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gptoss_lab.model.CHUNK", chunk)
    model = make(engine=engine)
    prompt = tokens(1, 40)
    cache = model.new_cache()
    before = model(prompt[:, :10], cache)
    asked = iter([False] * (2 if chunk > 30 else 3) + [True])
    with pytest.raises(Stopped):
        model(prompt[:, 10:], cache, should_stop=lambda: next(asked))
    assert cache.length == 10
    close(torch.cat([before, model(prompt[:, 10:], cache)], dim=1), model(prompt))


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ([], ValueError, "empty"),
        ([[1, 2], [3]], ValueError, "equally long"),
        ([0, 101], ValueError, "from 0 to 100; got 101"),
        ([-1], ValueError, "got -1"),
        ([0.5], TypeError, "integers"),
        ([[[1]]], ValueError, "shape"),
        (list(range(101)) * 11, ValueError, "1111 tokens, of 1024"),
    ],
)
def test_bad_tokens_are_refused_by_name(given: list, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        make()(given)


def test_caches_of_unequal_length_or_number_are_refused() -> None:
    model = make()
    one, two = model.new_cache(), model.new_cache()
    model([1, 2], one)
    with pytest.raises(ValueError, match="equally long"):
        model([[1], [2]], [one, two])
    with pytest.raises(ValueError, match="as many caches"):
        model([[1], [2]], [one])
    with pytest.raises(ValueError, match="each its own"):
        model([[1], [2]], [one, one])


def test_an_unknown_engine_or_a_wrong_device_is_refused() -> None:
    weights = weights_module.random(SMALL)
    with pytest.raises(ValueError, match="no engine 'jax'"):
        Transformer(SMALL, weights, "jax")
    with pytest.raises(ValueError, match="choose engine='torch'"):
        Transformer(SMALL, weights, "numba", device="meta")
