"""The three dialects of config.json, and what is refused."""

import json
from dataclasses import replace

import pytest
import transformers

from gptoss_lab.config import PRESETS, ModelConfig

# The files as published: the hub's (openai/gpt-oss-20b, config.json) and OpenAI's own (original/config.json).
HUB_20B = json.loads("""{
    "architectures": ["GptOssForCausalLM"], "attention_bias": true, "attention_dropout": 0.0, "eos_token_id": 200002,
    "experts_per_token": 4, "head_dim": 64, "hidden_act": "silu", "hidden_size": 2880, "initial_context_length": 4096,
    "initializer_range": 0.02, "intermediate_size": 2880, "max_position_embeddings": 131072, "model_type": "gpt_oss",
    "num_attention_heads": 64, "num_experts_per_tok": 4, "num_hidden_layers": 24, "num_key_value_heads": 8,
    "num_local_experts": 32, "output_router_logits": false, "pad_token_id": 199999,
    "quantization_config": {"modules_to_not_convert": ["model.layers.*.self_attn"], "quant_method": "mxfp4"},
    "rms_norm_eps": 1e-05,
    "rope_scaling": {"beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0, "original_max_position_embeddings": 4096,
        "rope_type": "yarn", "truncate": false},
    "rope_theta": 150000, "router_aux_loss_coef": 0.9, "sliding_window": 128, "swiglu_limit": 7.0,
    "tie_word_embeddings": false, "use_cache": true, "vocab_size": 201088}""")
HUB_20B["layer_types"] = ["sliding_attention", "full_attention"] * 12

ORIGINAL_120B = json.loads("""{
    "num_hidden_layers": 36, "num_experts": 128, "experts_per_token": 4, "vocab_size": 201088, "hidden_size": 2880,
    "intermediate_size": 2880, "swiglu_limit": 7.0, "head_dim": 64, "num_attention_heads": 64,
    "num_key_value_heads": 8, "sliding_window": 128, "initial_context_length": 4096, "rope_theta": 150000,
    "rope_scaling_factor": 32.0, "rope_ntk_alpha": 1, "rope_ntk_beta": 32}""")

# Every field unlike its default, so that a field read from the wrong place shows.
UNUSUAL = replace(
    PRESETS["nano"],
    rope_theta=10_000.0,
    rope_beta_fast=16.0,
    rope_beta_slow=2.0,
    rope_truncate=True,
    swiglu_limit=5.0,
    norm_eps=1e-6,
)


def test_the_published_files_give_the_presets() -> None:
    assert ModelConfig.from_dict(HUB_20B) == PRESETS["20b"]
    assert ModelConfig.from_dict(ORIGINAL_120B) == PRESETS["120b"]
    assert ModelConfig.from_dict(transformers.GptOssConfig().to_dict()) == PRESETS["120b"]


@pytest.mark.parametrize("config", [*PRESETS.values(), UNUSUAL], ids=[*PRESETS, "unusual"])
def test_what_is_written_is_read_again_here_and_by_transformers(config: ModelConfig) -> None:
    written = json.loads(json.dumps(config.to_dict()))
    assert ModelConfig.from_dict(written) == config
    theirs = transformers.GptOssConfig(**written).to_dict()
    assert "rope_scaling" not in theirs  # transformers 5's dialect
    assert ModelConfig.from_dict(theirs) == config


def test_the_original_dialect_is_read_field_by_field() -> None:
    unusual = ORIGINAL_120B | {
        "num_hidden_layers": 3,
        "num_experts": 6,
        "experts_per_token": 2,
        "vocab_size": 11,
        "hidden_size": 64,
        "intermediate_size": 96,
        "swiglu_limit": 5,
        "head_dim": 16,
        "num_attention_heads": 6,
        "num_key_value_heads": 3,
        "sliding_window": 9,
        "initial_context_length": 128,
        "rope_theta": 1000,
        "rope_scaling_factor": 4.0,
        "rope_ntk_alpha": 2,
        "rope_ntk_beta": 8,
    }
    assert ModelConfig.from_dict(unusual) == ModelConfig(
        n_layers=3,
        n_experts=6,
        experts_per_token=2,
        d_vocab=11,
        d_model=64,
        d_mlp=96,
        swiglu_limit=5.0,
        d_head=16,
        n_heads=6,
        n_kv_heads=3,
        sliding_window=9,
        n_ctx=512,
        original_context=128,
        rope_theta=1000.0,
        rope_factor=4.0,
        rope_beta_slow=2.0,
        rope_beta_fast=8.0,
        rope_truncate=False,
        norm_eps=1e-5,
    )


def test_even_layers_slide_and_odd_ones_see_everything() -> None:
    assert [PRESETS["20b"].window(layer) for layer in range(4)] == [128, None, 128, None]


def test_a_silent_truncate_is_taken_as_transformers_takes_it() -> None:
    rope = {name: value for name, value in HUB_20B["rope_scaling"].items() if name != "truncate"}
    assert ModelConfig.from_dict(HUB_20B | {"rope_scaling": rope}).rope_truncate


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "llama"}, ["model_type", "'llama'", "'gpt_oss'"]),
        ({"architectures": ["GptOssForSequenceClassification"]}, ["architectures", "GptOssForCausalLM"]),
        ({"hidden_act": "gelu"}, ["hidden_act", "'gelu'", "'silu'"]),
        ({"attention_bias": False}, ["attention_bias", "False", "True"]),
        ({"tie_word_embeddings": True}, ["tie_word_embeddings", "True", "False"]),
        ({"swiglu_alpha": 1.0}, ["swiglu_alpha", "1.0", "1.702"]),
        ({"quantization_config": {"quant_method": "gptq"}}, ["quantization_config.quant_method", "'gptq'", "'mxfp4'"]),
        (
            {"layer_types": ["full_attention", "sliding_attention"] * 12},
            ["layer_types", "sliding_attention in the even"],
        ),
        ({"num_hidden_layers": 23}, ["layer_types", "23 layers"]),
        ({"rope_scaling": None}, ["rope_scaling", "None", "yarn"]),
        ({"rope_scaling": HUB_20B["rope_scaling"] | {"rope_type": "linear"}}, ["rope_scaling.rope_type", "'linear'"]),
        ({"rope_scaling": HUB_20B["rope_scaling"] | {"attention_factor": 1.0}}, ["attention_factor", "1.0", "1.3466"]),
        ({"rope_scaling": HUB_20B["rope_scaling"] | {"mscale": 0.7}}, ["rope_scaling.mscale", "0.7"]),
        ({"rope_scaling": HUB_20B["rope_scaling"] | {"factor": None}}, ["rope_scaling.factor", "missing"]),
        ({"hidden_size": None}, ["hidden_size", "missing"]),
        ({"hidden_size": "2880"}, ["hidden_size", "'2880'", "an integer"]),
        ({"hidden_size": 2880.5}, ["hidden_size", "2880.5", "an integer"]),
        ({"hidden_size": True}, ["hidden_size", "True", "an integer"]),
        ({"hidden_size": float("nan")}, ["hidden_size", "nan", "an integer"]),
        ({"hidden_size": 0}, ["d_model", "hidden_size", "0", "positive"]),
        ({"num_attention_heads": 63}, ["num_attention_heads", "63", "8"]),
        ({"head_dim": 63}, ["head_dim", "63", "even"]),
        ({"num_experts_per_tok": 33}, ["num_experts_per_tok", "33", "32"]),
        ({"rms_norm_eps": 0}, ["rms_norm_eps", "0", "positive"]),
        ({"rope_theta": 1}, ["rope_theta", "1.0", "more than 1"]),
        ({"rope_scaling": HUB_20B["rope_scaling"] | {"factor": 0.5}}, ["factor", "0.5", "at least 1"]),
        ({"rope_scaling": HUB_20B["rope_scaling"] | {"beta_fast": 1}}, ["beta_fast", "1.0"]),
        ({"rope_scaling": HUB_20B["rope_scaling"] | {"truncate": "no"}}, ["truncate", "'no'", "true or false"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_anything_else_is_refused_by_name(change: dict, said: list[str]) -> None:
    with pytest.raises(ValueError) as raised:
        ModelConfig.from_dict(HUB_20B | change, source="somewhere/config.json")
    for part in ["somewhere/config.json", *said]:
        assert part in str(raised.value)


def test_a_file_that_is_no_object_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a JSON object, found list"):
        ModelConfig.from_dict([])  # type: ignore[arg-type]
