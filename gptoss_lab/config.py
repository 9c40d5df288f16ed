"""The shape and constants of a gpt-oss model, and the three dialects of config.json that state them.

`hub` is the file at the root of the published repositories (`rope_theta`, `rope_scaling`), `transformers 5` gathers the
rotary fields in `rope_parameters`, and `original` is the file beside OpenAI's own checkpoint (`num_experts`,
`initial_context_length`, `rope_ntk_beta`, ...; read by `gpt_oss/torch/model.py` in openai/gpt-oss).

What the architecture fixes has no field here: the dialects may state it, and a file that states anything else is
refused: sliding windows in even layers and full attention in odd ones, biases in attention, SwiGLU with a gain of
1.702, YaRN's attention factor, an unembedding of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

SWIGLU_ALPHA = 1.702  # gain of the sigmoid in the experts' activation: gate * sigmoid(1.702 gate) * (up + 1)
BLOCK_VALUES = 32  # values that share one MXFP4 scale; packed rows are whole blocks (OCP Microscaling Formats, 5.2)


@dataclass(frozen=True)
class ModelConfig:
    """What a checkpoint of the gpt-oss architecture leaves open. Lengths are in tokens, widths in values.

    Raises ValueError, naming field, expected and found, for sizes that no gpt-oss model can have.
    """

    n_layers: int
    d_model: int  # width of the residual stream
    n_heads: int  # query heads; n_heads / n_kv_heads of them share a key-value head
    n_kv_heads: int
    d_head: int
    d_vocab: int
    n_experts: int  # in every layer
    experts_per_token: int
    d_mlp: int  # hidden width of one expert
    sliding_window: int  # tokens that even layers see, the token itself included
    n_ctx: int  # longest context
    original_context: int  # context before YaRN's extension
    rope_theta: float = 150_000.0
    rope_factor: float = 32.0  # YaRN's extension: n_ctx / original_context
    rope_beta_fast: float = 32.0  # rotations over original_context above which a frequency is kept
    rope_beta_slow: float = 1.0  # rotations below which it is divided by rope_factor
    rope_truncate: bool = False  # whether the bounds between those two are rounded to whole dimensions
    swiglu_limit: float = 7.0  # gate is clamped above at it, up to both sides
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int" and (type(value) is not int or value < 1):
                raise _unfit(field.name, value, "a positive integer")
            if field.type == "float" and not (type(value) in (int, float) and 0 < value < math.inf):
                raise _unfit(field.name, value, "a positive number")
            if field.type == "bool" and type(value) is not bool:
                raise _unfit(field.name, value, "true or false")
        if self.n_heads % self.n_kv_heads:
            raise _unfit("n_heads", self.n_heads, f"a multiple of the {self.n_kv_heads} key-value heads")
        if self.d_head % 2:
            raise _unfit("d_head", self.d_head, "an even number, for rotary embeddings turn its halves")
        if self.experts_per_token > self.n_experts:
            raise _unfit(
                "experts_per_token", self.experts_per_token, f"at most the {self.n_experts} experts of a layer"
            )
        if self.rope_factor < 1:
            raise _unfit("rope_factor", self.rope_factor, "at least 1")
        if self.rope_theta <= 1:
            raise _unfit("rope_theta", self.rope_theta, "more than 1")
        if self.rope_beta_fast <= self.rope_beta_slow:
            raise _unfit("rope_beta_fast", self.rope_beta_fast, f"more than rope_beta_slow, {self.rope_beta_slow}")

    def window(self, layer: int) -> int | None:
        """How many tokens `layer` attends to, the token itself included; None where it sees them all."""
        return self.sliding_window if layer % 2 == 0 else None

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], source: str = "config.json") -> ModelConfig:
        """Reads a parsed config.json of any of the three dialects.

        `source` names the file in errors: ValueError for another architecture, and for a missing or impossible field.
        """
        if not isinstance(d, Mapping):
            raise ValueError(f"{source}: expected a JSON object, found {type(d).__name__}")
        try:
            return cls(**(_read_original(d) if _is_original(d) else _read_hub(d)))
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """The hub's dialect, which transformers 4 and 5 both read."""
        sizes = {name: getattr(self, field) for field, name in _HUB_NAMES.items()}
        scaling = {name: getattr(self, field) for field, name in _HUB_ROPE_NAMES.items()}
        return {
            "architectures": ["GptOssForCausalLM"],
            "model_type": "gpt_oss",
            **sizes,
            "attention_bias": True,
            "hidden_act": "silu",
            "layer_types": _layer_types(self.n_layers),
            "rope_scaling": {"rope_type": "yarn", **scaling},
            "tie_word_embeddings": False,
        }


_20B = ModelConfig(
    n_layers=24,
    d_model=2880,
    n_heads=64,
    n_kv_heads=8,
    d_head=64,
    d_vocab=201_088,
    n_experts=32,
    experts_per_token=4,
    d_mlp=2880,
    sliding_window=128,
    n_ctx=131_072,
    original_context=4096,
)

PRESETS: dict[str, ModelConfig] = {
    "20b": _20B,
    "120b": replace(_20B, n_layers=36, n_experts=128),
    "nano": ModelConfig(
        n_layers=6,
        d_model=128,
        n_heads=4,
        n_kv_heads=2,
        d_head=32,
        d_vocab=1024,
        n_experts=16,
        experts_per_token=4,
        d_mlp=64,
        sliding_window=32,
        n_ctx=4096,
        original_context=512,  # 512 x 8, not 4096: with 32 dimensions a head, YaRN's range would leave the head
        rope_factor=8.0,
    ),
}


_HUB_NAMES = {
    "n_layers": "num_hidden_layers",
    "d_model": "hidden_size",
    "n_heads": "num_attention_heads",
    "n_kv_heads": "num_key_value_heads",
    "d_head": "head_dim",
    "d_vocab": "vocab_size",
    "n_experts": "num_local_experts",
    "experts_per_token": "num_experts_per_tok",
    "d_mlp": "intermediate_size",
    "sliding_window": "sliding_window",
    "n_ctx": "max_position_embeddings",
    "rope_theta": "rope_theta",
    "swiglu_limit": "swiglu_limit",
    "norm_eps": "rms_norm_eps",
}
_HUB_ROPE_NAMES = {  # inside rope_scaling
    "original_context": "original_max_position_embeddings",
    "rope_factor": "factor",
    "rope_beta_fast": "beta_fast",
    "rope_beta_slow": "beta_slow",
    "rope_truncate": "truncate",
}
_ORIGINAL_NAMES = {
    **{field: name for field, name in _HUB_NAMES.items() if field not in ("n_ctx", "norm_eps")},
    "n_experts": "num_experts",
    "experts_per_token": "experts_per_token",
    "original_context": "initial_context_length",
    "rope_factor": "rope_scaling_factor",
    "rope_beta_fast": "rope_ntk_beta",
    "rope_beta_slow": "rope_ntk_alpha",
}


def _is_original(d: Mapping[str, Any]) -> bool:
    return "model_type" not in d and ("num_experts" in d or "rope_ntk_beta" in d)


def _read_original(d: Mapping[str, Any]) -> dict[str, Any]:
    values = _pick(d, _ORIGINAL_NAMES)
    values["n_ctx"] = round(values["original_context"] * values.get("rope_factor", ModelConfig.rope_factor))
    return values


def _read_hub(d: Mapping[str, Any]) -> dict[str, Any]:
    _expect(d, "model_type", "gpt_oss", required=True)
    if d.get("architectures"):
        _expect(d, "architectures", ["GptOssForCausalLM"])
    _expect(d, "attention_bias", True)
    _expect(d, "hidden_act", "silu")
    _expect(d, "swiglu_alpha", SWIGLU_ALPHA)
    _expect(d, "tie_word_embeddings", False)
    if d.get("quantization_config"):
        _expect(d["quantization_config"], "quant_method", "mxfp4", within="quantization_config.", required=True)
    dialect = "rope_parameters" if d.get("rope_parameters") else "rope_scaling"
    rope = d.get(dialect)
    if not isinstance(rope, Mapping):
        raise ValueError(f"{dialect} is {rope!r}; expected an object with rope_type yarn")
    # Newer files keep rope_theta among the rotary parameters, older ones beside them.
    values = _pick({**d, **{k: v for k, v in rope.items() if k == "rope_theta"}}, _HUB_NAMES) | _read_yarn(
        rope, dialect
    )
    if (found := d.get("layer_types")) is not None and found != _layer_types(values["n_layers"]):
        raise ValueError(
            f"layer_types is {found!r}; expected {values['n_layers']} layers, sliding_attention in the even ones"
            " (the first is 0) and full_attention in the odd ones, as the gpt-oss architecture has it"
        )
    return values


def _read_yarn(rope: Mapping[str, Any], dialect: str) -> dict[str, Any]:
    within = f"{dialect}."
    _expect(rope, "rope_type" if "rope_type" in rope else "type", "yarn", within=within, required=True)
    _expect(rope, "partial_rotary_factor", 1.0, within=within)
    for neutral in ("mscale", "mscale_all_dim"):
        _expect(rope, neutral, None, within=within)
    values = _pick(rope, _HUB_ROPE_NAMES, within=within)
    values.setdefault("rope_truncate", True)  # as transformers takes it where the file is silent
    if "rope_factor" not in values:
        raise ValueError(f"{within}factor is missing")
    if rope.get("attention_factor") is not None:
        concentration = 0.1 * math.log(values["rope_factor"]) + 1  # YaRN, section 3.4
        if not math.isclose(rope["attention_factor"], concentration, rel_tol=1e-4):
            raise ValueError(f"{within}attention_factor is {rope['attention_factor']!r}; expected {concentration:.4f}")
    return values


def _pick(d: Mapping[str, Any], names: Mapping[str, str], within: str = "") -> dict[str, Any]:
    """The values of `names` (our field: the file's), in our types; ValueError where one is missing or unfit."""
    types = {field.name: field.type for field in fields(ModelConfig)}
    values: dict[str, Any] = {}
    for field, name in names.items():
        value = d.get(name)
        if value is None:
            if field not in _DEFAULTS:
                raise ValueError(f"{within}{name} is missing")
            continue
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if types[field] == "int":
            if not number or value != int(value):
                raise ValueError(f"{within}{name} is {value!r}; expected an integer")
            value = int(value)
        elif types[field] == "float":
            if not number:
                raise ValueError(f"{within}{name} is {value!r}; expected a number")
            value = float(value)
        values[field] = value
    return values


_DEFAULTS = {field.name for field in fields(ModelConfig) if isinstance(field.default, (int, float))}


def _expect(d: Mapping[str, Any], name: str, expected: object, within: str = "", required: bool = False) -> None:
    found = d.get(name)
    if found != expected and (required or found is not None):
        raise ValueError(f"{within}{name} is {found!r}; expected {expected!r}, as the gpt-oss architecture has it")


def _layer_types(n_layers: int) -> list[str]:
    return ["full_attention" if layer % 2 else "sliding_attention" for layer in range(n_layers)]


def _unfit(field: str, found: object, expected: str) -> ValueError:
    name = {**_HUB_NAMES, **_HUB_ROPE_NAMES}[field]
    return ValueError(f"{field} ({name}) is {found!r}; expected {expected}")
