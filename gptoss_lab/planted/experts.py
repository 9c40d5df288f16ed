"""Experts: how weights make a hidden unit know a condition, and write what follows from it.

A hidden unit of SwiGLU has a gate and an up value, and gives gate * sigmoid(1.702 gate) * (up + 1), the gate clamped
above at 7. Two facts make a switch of it: a gate driven far past the clamp gives 7, however far; one driven far below
zero gives nothing. So the *gate* can say when: it adds up code words and compares the sum with a threshold. The *up*
value can say what: on an open gate it passes through, multiplied, with 1 added to it.

That a hidden layer is a memory, keys in the rows that read and values in the columns that write, is the view of Geva
et al., "Transformer Feed-Forward Layers Are Key-Value Memories" (arXiv 2012.14913).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor

from gptoss_lab.planted.blank import Draft, Register
from gptoss_lab.planted.codes import NEAREST, WIDTH

GATE = 4.0
"""What a gate multiplies its sum by. A full match is 4 above the threshold, the nearest miss 4 below it: 16 and -16."""

OPEN = 7.0
"""What an open unit gives where its up value is 0: the clamp, ModelConfig.swiglu_limit, to 4e-5."""

COLUMN = 2.0**-7
"""What an open unit's output is multiplied by when it writes a word."""

LOUDNESS = OPEN * COLUMN
"""How loud an expert writes a word, before the router weighs it: seven eighths of a head's whisper."""


@dataclass(frozen=True)
class Rule:
    """Where all registers of `when` hold their words, write words, and copy registers.

    An empty `when` always holds. `write` takes any sums and multiples of words that MXFP4 can hold.
    """

    when: Mapping[Register, Tensor]
    write: Mapping[Register, Tensor] = field(default_factory=dict)
    copy: Mapping[Register, Register] = field(default_factory=dict)


@dataclass(frozen=True)
class _Unit:
    """One hidden unit. up, column: [d_model]."""

    when: Mapping[Register, Tensor]
    up: Tensor
    column: Tensor


def write_rules(draft: Draft, layer: int, expert: int, rules: Sequence[Rule]) -> None:
    """Gives an expert its rules. Raises ValueError where they take more hidden units than it has."""
    weights, d_model, d_mlp = draft.weights.layers[layer], draft.config.d_model, draft.config.d_mlp
    units = [unit for rule in rules for unit in _units(rule, d_model)]
    if len(units) > d_mlp:
        raise ValueError(f"the rules take {len(units)} hidden units; expert {expert} of layer {layer} has {d_mlp}")
    gate_up, down = (cast(Tensor, matrices)[expert] for matrices in (weights.gate_up, weights.down))
    gates, ups = gate_up[0::2], gate_up[1::2]  # interleaved
    biases_of_gates = weights.gate_up_bias[expert, 0::2]
    for number, unit in enumerate(units):
        for register, word in unit.when.items():
            gates[number, register.slots] = GATE * word
        all_match = WIDTH * len(unit.when)
        biases_of_gates[number] = -GATE * (all_match - (WIDTH - NEAREST) / 2)
        ups[number] = unit.up
        down[:, number] = unit.column


def _units(rule: Rule, d_model: int) -> Iterator[_Unit]:
    """A unit that writes, if there is anything to write, and a unit for every copied value."""
    nothing = torch.zeros(d_model)
    column = torch.zeros(d_model)
    for register, word in rule.write.items():
        column[register.slots] += COLUMN * word
    for source, target in rule.copy.items():
        for read, write in zip(range(d_model)[source.slots], range(d_model)[target.slots], strict=True):
            one_read, one_written = nothing.clone(), nothing.clone()
            one_read[read], one_written[write] = 1.0, COLUMN
            yield _Unit(rule.when, one_read, one_written)
        column[target.slots] -= COLUMN  # the 1 in (up + 1), sixteen times
    if column.any():
        yield _Unit(rule.when, nothing, column)
