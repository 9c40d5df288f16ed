"""What a checkpoint calls its tensors, in each dialect, and the shape and type that each must have.

`root` is the dialect at the root of the published repositories, which transformers reads; `original` is OpenAI's own,
in their folder original/ (`gpt_oss/torch/weights.py` in openai/gpt-oss), with q, k and v fused in one matrix. Experts
are packed, as published, or plain and transposed, as transformers saves a model that it has unpacked.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from gptoss_lab.config import BLOCK_VALUES, ModelConfig

Part = Literal["", "blocks", "scales"]
FLOATS = (torch.bfloat16, torch.float32)
EXPERTS = ("gate_up", "down")
VECTORS = (
    *("attn_norm", "mlp_norm", "final_norm", "sinks"),
    *("q_bias", "k_bias", "v_bias", "qkv_bias", "o_bias", "router_bias", "gate_up_bias", "down_bias"),
)


@dataclass(frozen=True)
class Dialect:
    """How one family of checkpoints names the fields of `Weights` and, in every layer, of `LayerWeights`."""

    name: str
    model: Mapping[str, str]
    layer: Mapping[str, str]
    layer_prefix: str
    packed_separator: str  # between an expert matrix's name and "blocks" or "scales"


@dataclass(frozen=True)
class Slot:
    """One tensor of a checkpoint: its name there, what it is here, and what it must look like."""

    name: str
    layer: int | None
    field: str
    part: Part
    shape: tuple[int, ...]
    dtypes: tuple[torch.dtype, ...]


ROOT = Dialect(
    name="root",
    model={
        "embedding": "model.embed_tokens.weight",
        "final_norm": "model.norm.weight",
        "unembedding": "lm_head.weight",
    },
    layer={
        "attn_norm": "input_layernorm.weight",
        "q": "self_attn.q_proj.weight",
        "q_bias": "self_attn.q_proj.bias",
        "k": "self_attn.k_proj.weight",
        "k_bias": "self_attn.k_proj.bias",
        "v": "self_attn.v_proj.weight",
        "v_bias": "self_attn.v_proj.bias",
        "o": "self_attn.o_proj.weight",
        "o_bias": "self_attn.o_proj.bias",
        "sinks": "self_attn.sinks",
        "mlp_norm": "post_attention_layernorm.weight",
        "router": "mlp.router.weight",
        "router_bias": "mlp.router.bias",
        "gate_up": "mlp.experts.gate_up_proj",
        "gate_up_bias": "mlp.experts.gate_up_proj_bias",
        "down": "mlp.experts.down_proj",
        "down_bias": "mlp.experts.down_proj_bias",
    },
    layer_prefix="model.layers.{}.",
    packed_separator="_",
)

ORIGINAL = Dialect(
    name="original",
    model={"embedding": "embedding.weight", "final_norm": "norm.scale", "unembedding": "unembedding.weight"},
    layer={
        "attn_norm": "attn.norm.scale",
        "qkv": "attn.qkv.weight",
        "qkv_bias": "attn.qkv.bias",
        "o": "attn.out.weight",
        "o_bias": "attn.out.bias",
        "sinks": "attn.sinks",
        "mlp_norm": "mlp.norm.scale",
        "router": "mlp.gate.weight",
        "router_bias": "mlp.gate.bias",
        "gate_up": "mlp.mlp1_weight",
        "gate_up_bias": "mlp.mlp1_bias",
        "down": "mlp.mlp2_weight",
        "down_bias": "mlp.mlp2_bias",
    },
    layer_prefix="block.{}.",
    packed_separator=".",
)


def recognise(names: Collection[str]) -> tuple[Dialect, bool]:
    """The dialect of a checkpoint with tensors of these names, and whether its experts are packed.

    Raises ValueError where they belong to neither.
    """
    for dialect in (ROOT, ORIGINAL):
        if any(name in names for name in dialect.model.values()):
            packed = any(name.endswith(f"{dialect.packed_separator}blocks") for name in names)
            return dialect, packed
    found = ", ".join(sorted(names)[:3]) or "no tensor at all"
    raise ValueError(f"expected the tensors of a gpt-oss checkpoint, such as lm_head.weight; found {found}")


def slots(config: ModelConfig, dialect: Dialect, *, packed: bool) -> list[Slot]:
    """Every tensor that a checkpoint of this shape holds, in the order of the forward pass.

    Raises ValueError where experts are packed and their rows do not divide into blocks.
    """
    if packed:
        for field, size in (("d_model (hidden_size)", config.d_model), ("d_mlp (intermediate_size)", config.d_mlp)):
            if size % BLOCK_VALUES:
                raise ValueError(f"{field} is {size}; experts packed in MXFP4 need a multiple of {BLOCK_VALUES}")
    if not packed and dialect is ORIGINAL:
        raise ValueError("the original dialect holds its experts packed in MXFP4; found no tensor *.blocks")

    def layer_slots(layer: int) -> list[Slot]:
        shapes = layer_shapes(config)
        found = []
        for field, name in dialect.layer.items():
            name = dialect.layer_prefix.format(layer) + name
            if field not in EXPERTS:
                found.append(Slot(name, layer, field, "", shapes[field], FLOATS))
            elif packed:
                n_experts, rows, columns = shapes[field]
                grouped = (n_experts, rows, columns // BLOCK_VALUES)
                prefix = name + dialect.packed_separator
                blocks = (*grouped, BLOCK_VALUES // 2)
                found.append(Slot(f"{prefix}blocks", layer, field, "blocks", blocks, (torch.uint8,)))
                found.append(Slot(f"{prefix}scales", layer, field, "scales", grouped, (torch.uint8,)))
            else:
                n_experts, rows, columns = shapes[field]
                found.append(Slot(name, layer, field, "", (n_experts, columns, rows), FLOATS))
        return found

    def model_slot(field: str) -> Slot:
        return Slot(dialect.model[field], None, field, "", model_shapes(config)[field], FLOATS)

    layers = [slot for layer in range(config.n_layers) for slot in layer_slots(layer)]
    return [model_slot("embedding"), *layers, model_slot("final_norm"), model_slot("unembedding")]


def model_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The shapes of the fields of `Weights` that belong to no layer."""
    vocabulary = (config.d_vocab, config.d_model)
    return {"embedding": vocabulary, "final_norm": (config.d_model,), "unembedding": vocabulary}


def layer_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The shapes of the fields of `LayerWeights`, and of q, k and v fused."""
    d_model, d_mlp, n_experts = config.d_model, config.d_mlp, config.n_experts
    d_query, d_key_value = config.n_heads * config.d_head, config.n_kv_heads * config.d_head
    d_fused = d_query + 2 * d_key_value
    return {
        "attn_norm": (d_model,),
        "q": (d_query, d_model),
        "q_bias": (d_query,),
        "k": (d_key_value, d_model),
        "k_bias": (d_key_value,),
        "v": (d_key_value, d_model),
        "v_bias": (d_key_value,),
        "qkv": (d_fused, d_model),
        "qkv_bias": (d_fused,),
        "o": (d_model, d_query),
        "o_bias": (d_model,),
        "sinks": (config.n_heads,),
        "mlp_norm": (d_model,),
        "router": (n_experts, d_model),
        "router_bias": (n_experts,),
        "gate_up": (n_experts, 2 * d_mlp, d_model),
        "gate_up_bias": (n_experts, 2 * d_mlp),
        "down": (n_experts, d_model, d_mlp),
        "down_bias": (n_experts, d_model),
    }
