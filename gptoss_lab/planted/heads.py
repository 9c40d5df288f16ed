"""Attention heads: how weights make one look somewhere, and carry something from there.

A score is the dot product of a query and a key after the rotary embedding has turned each of their 32 pairs of values
by an angle that grows with the position, the first pair by 1 radian a token, the last by 0.0000003 (`rotary`). Both
kinds of head live on that:

- The *fast* pairs know where a token stands and cannot be used to say what it is. Give all tokens the same key, and
  give the query that same key turned back by one token: rotated at position p, it points just where the key of
  position p - 1 points. `look_back` does this.
- The *slow* pairs hardly turn within any context, so that what is written there is compared as it is: a code word in
  the query finds the same word in a key, wherever it stands. `look_for` does this.

In both, the sink's logit lies halfway between the score of what is sought and the next best score that anything else
can have. So the head gives all its weight to what it seeks, and where that is nowhere to be seen, rests on its sink.
"""

import torch
from torch import Tensor

from gptoss_lab.planted.blank import WHISPER, Draft, Register
from gptoss_lab.planted.codes import NEAREST, WIDTH
from gptoss_lab.rotary import concentration, inverse_frequencies
from gptoss_lab.weights import LayerWeights

Head = tuple[int, int]
"""Layer, and number within the layer."""

MARGIN = 20.0
"""How far the sink's logit is below the score of what is sought, and above any other score: e^-20 is 2e-9."""

N_FAST = 8  # the fastest pairs: enough of them that no other distance within the context looks like the one sought
N_SLOW = WIDTH // 2  # the slowest pairs: room for one code word


def look_back(draft: Draft, head: Head, distance: int) -> None:
    """Makes a head look at the token that stands `distance` before its own, whatever it is; 0 is the token itself.

    Heads that share a key-value head may look back by different distances, since their keys are the same.
    """
    frequencies = inverse_frequencies(draft.config)[:N_FAST]
    strength = (2 * MARGIN / (_scale(draft) * _contrast(frequencies, draft.config.n_ctx))) ** 0.5
    pairs = torch.arange(N_FAST)
    layer, query, key = _place(draft, head)

    layer.k_bias[key][pairs] = strength
    # The key, a strength along the first value of each pair, turned back by `distance` tokens.
    layer.q_bias[query][pairs] = strength * (distance * frequencies).cos()
    layer.q_bias[query][_partner(draft, pairs)] = -strength * (distance * frequencies).sin()
    layer.sinks[head[1]] = _scale(draft) * strength**2 * N_FAST - MARGIN


def look_for(draft: Draft, head: Head, sought: Tensor | Register, among: Register) -> None:
    """Makes a head look at the tokens whose register `among` holds a certain code word, in equal shares.

    sought: the word itself, or the register in which the looking token holds it.
    """
    strength = (2 * MARGIN / (_scale(draft) * (WIDTH - NEAREST))) ** 0.5
    pairs = torch.arange(draft.config.d_head // 2)[-N_SLOW:]
    places = torch.cat((pairs, _partner(draft, pairs)))  # [WIDTH]
    layer, query, key = _place(draft, head)

    layer.k[key, among.slots][places] = strength * torch.eye(WIDTH)
    if isinstance(sought, Register):
        layer.q[query, sought.slots][places] = strength * torch.eye(WIDTH)
    else:
        layer.q_bias[query][places] = strength * sought
    layer.sinks[head[1]] = _scale(draft) * strength**2 * (WIDTH + NEAREST) / 2


def carry(draft: Draft, head: Head, source: Register, target: Register, otherwise: Tensor | None = None) -> None:
    """Makes a head copy a register of the tokens that it looks at into a register of its own token.

    otherwise: the word that stands there when the head rests. The output's bias adds it everywhere, and the value's
    bias takes it back wherever there is a value.
    """
    layer, query, key = _place(draft, head)
    layer.v[key, source.slots][:WIDTH] = torch.eye(WIDTH)
    layer.o[target.slots, query][:, :WIDTH] = WHISPER * torch.eye(WIDTH)
    if otherwise is not None:
        layer.v_bias[key][:WIDTH] = -otherwise
        layer.o_bias[target.slots] = WHISPER * otherwise


def _contrast(frequencies: Tensor, n_ctx: int) -> float:
    """By how much the nearest rival misses: the sum of cosines at the distance sought, less that at any other."""
    others = torch.arange(1, n_ctx)[:, None]
    return float((1 - (others * frequencies).cos()).sum(dim=1).min())


def _place(draft: Draft, head: Head) -> tuple[LayerWeights, slice, slice]:
    """A head's layer, and where in it its queries and its keys stand."""
    layer, number = head
    d_head, heads_per_key = draft.config.d_head, draft.config.n_heads // draft.config.n_kv_heads
    query, key = (slice(place * d_head, (place + 1) * d_head) for place in (number, number // heads_per_key))
    return draft.weights.layers[layer], query, key


def _partner(draft: Draft, pairs: Tensor) -> Tensor:
    """Where the second values of pairs stand: the rotary embedding pairs the halves of a head."""
    return pairs + draft.config.d_head // 2


def _scale(draft: Draft) -> float:
    """What a query's dot product with a key is multiplied by to be a score, the rotary concentration included."""
    return concentration(draft.config) ** 2 / draft.config.d_head**0.5
