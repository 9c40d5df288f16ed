"""The paper to write on: a gpt-oss that says nothing yet, and knows of every token only which one it is.

Its residual stream of 128 values is eight registers of sixteen, each holding a code word (see `codes`) or nothing.
The embedding fills the first two, token and class; heads and experts write into the others; the unembedding reads the
last two. A register that holds nothing is all zeros.

RMSNorm divides by the length of the whole stream, so that anything written anywhere would change everything that is
read. Hence one rule: *the embedding speaks loudly, all else whispers*. Thirty-two values of plus or minus one, out of
128, have a root mean square of exactly one half; what is written later is sixteen times smaller and changes that by
less than one in a hundred. The gains of the norms make up for both: after any norm, every register that holds a word
holds plus or minus one.
"""

from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor

from gptoss_lab import mxfp4
from gptoss_lab.checkpoint import names
from gptoss_lab.config import PRESETS, ModelConfig
from gptoss_lab.planted import vocabulary
from gptoss_lab.planted.codes import WIDTH, codeword, orthogonal_codeword
from gptoss_lab.weights import LayerWeights, Weights

WHISPER = 1 / 16
"""How loud heads and experts write, where the embedding's values are plus or minus one."""

GAIN_OF_UNEMBEDDING = 4.0
"""A word in the answer's register gives its token a logit of 64, and any other token one of at most 32."""


class Register(IntEnum):
    """What the residual stream holds, sixteen values each. Loud: the first two."""

    TOKEN = 0
    CLASS = 1
    PREVIOUS = 2  # the token before
    PREVIOUS_CLASS = 3
    KEPT = 4  # the token to keep in mind
    THOUGHT = 5  # "analysis", once there has been any
    ANSWER = 6  # the next token
    ANSWER_CLASS = 7  # the class of the next token, all of whose tokens are then equally likely

    @property
    def slots(self) -> slice:
        """The register's place in the residual stream."""
        return slice(self * WIDTH, (self + 1) * WIDTH)


def shape(n_layers: int) -> ModelConfig:
    """The shape of the planted models: small, with the 20b's heads, window, context and rotary constants."""
    return replace(
        PRESETS["20b"],
        n_layers=n_layers,
        d_model=len(Register) * WIDTH,
        n_heads=4,
        n_kv_heads=2,
        d_vocab=vocabulary.encoding().n_vocab,
        n_experts=8,
        experts_per_token=2,
        d_mlp=32,
    )


@dataclass(frozen=True)
class Draft:
    """A model being written: weights in float32, experts unpacked, changed in place until `finished`."""

    config: ModelConfig
    weights: Weights

    def finished(self) -> Weights:
        """The weights as a checkpoint stores them: matrices in bfloat16, experts in MXFP4.

        Raises ValueError where an expert's weight is none that MXFP4 can hold.
        """
        return replace(
            self.weights,
            embedding=self.weights.embedding.bfloat16(),
            layers=tuple(map(_stored, self.weights.layers)),
            unembedding=self.weights.unembedding.bfloat16(),
        )


def blank_draft(n_layers: int) -> Draft:
    """A model that knows its tokens and predicts nothing: all logits are 0.

    Its heads, being zero, look at everything that they may see, and at their sinks, in equal shares. Its experts, being
    zero, write nothing; a bias prefers each to the next, so that 0 and 1 serve every token.
    """
    config = shape(n_layers)

    def layer() -> LayerWeights:
        empty = {field: torch.zeros(size) for field, size in names.layer_shapes(config).items() if field[:3] != "qkv"}
        preference = -torch.arange(config.n_experts).float()
        return LayerWeights(**{**empty, "attn_norm": _gain(), "mlp_norm": _gain(), "router_bias": preference})

    embedding, unembedding = torch.zeros(2, config.d_vocab, config.d_model)
    for token in range(config.d_vocab):
        name, its_class = codeword(token), orthogonal_codeword(vocabulary.class_of(token))
        embedding[token, Register.TOKEN.slots] = name
        embedding[token, Register.CLASS.slots] = its_class
        unembedding[token, Register.ANSWER.slots] = GAIN_OF_UNEMBEDDING * name
        unembedding[token, Register.ANSWER_CLASS.slots] = GAIN_OF_UNEMBEDDING * its_class
    layers = tuple(layer() for _ in range(n_layers))
    return Draft(config, Weights(embedding, layers, final_norm=_gain(), unembedding=unembedding))


def _gain() -> Tensor:
    """What brings every register back to plus or minus one after a norm, [d_model]."""
    loud = (Register.TOKEN, Register.CLASS)
    root_mean_square = (len(loud) / len(Register)) ** 0.5
    gain = torch.full((len(Register) * WIDTH,), root_mean_square / WHISPER)
    for register in loud:
        gain[register.slots] = root_mean_square
    return gain


def _stored(layer: LayerWeights) -> LayerWeights:
    """A layer in the types of a checkpoint; vectors are float32, of values that bfloat16 holds."""

    def stored(name: str, tensor: Tensor) -> Any:  # of the kind that the field has in a checkpoint
        if name not in names.EXPERTS:
            return tensor.bfloat16().float() if name in names.VECTORS else tensor.bfloat16()
        packed = mxfp4.encode(tensor)
        if not torch.equal(mxfp4.decode(packed), tensor):
            raise ValueError(f"{name} has weights that MXFP4 cannot hold: write 0, 0.5, 1, 1.5, 2, 3, 4 or 6 times 2^n")
        return packed

    return LayerWeights(**{field.name: stored(field.name, getattr(layer, field.name)) for field in fields(layer)})
