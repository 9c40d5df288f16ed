"""What rounding costs: a model run as exactly as its weights allow, beside the same model in bfloat16 or with dense
weights in int8.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gptoss_lab.model import Tokens, Transformer

_LOGITS = "blocks.*.mlp.hook_router_logits"
_CHOSEN = "blocks.*.mlp.hook_expert_indices"


@dataclass(frozen=True)
class Rounding:
    """How far a rounded run of some tokens is from the exact one; each goes its own way, through its own experts."""

    n_tokens: int
    logit_error: float
    """Root mean square of the differences between logits, as a share of their standard deviation."""
    largest_error: float
    """The largest difference between logits."""
    kl_divergence: float
    """Nats by which the next token's distribution differs from the exact one, on average."""
    same_token: float
    """Share of positions where the likeliest next token is the same."""
    flips: float
    """Share of choices (one a token and layer) that fall on another set of experts."""
    flip_margin: float
    """The largest margin in router logits, of the exact run, over which a choice flipped; 0 where none did."""

    def __str__(self) -> str:
        return (
            f"Over {self.n_tokens} tokens: logits differ by {self.logit_error:.1%} of their spread"
            f" (at most {self.largest_error:.2g}), the next token's distribution by {self.kl_divergence:.2g} nats;"
            f" the likeliest token is the same in {self.same_token:.1%}. Routers choose other experts in"
            f" {self.flips:.2%} of their choices, at margins of up to {self.flip_margin:.2g}."
        )


def rounding(exact: Transformer, rounded: Transformer, tokens: Tokens) -> Rounding:
    """Runs both over the same tokens, of one sequence. They should hold the same weights.

    For instance: `rounding(load(NAME).transformer, load(NAME, dense="int8").transformer, tokens)`.
    """
    with torch.no_grad():
        logits, seen = exact.run_with_cache(tokens, [_LOGITS, _CHOSEN])
        others, seen_too = rounded.run_with_cache(tokens, _CHOSEN)
    difference = others - logits
    log_p, log_q = logits.log_softmax(-1), others.log_softmax(-1)
    layers = range(exact.config.n_layers)
    flipped = torch.stack([_flipped(seen, seen_too, layer) for layer in layers])
    margins = torch.stack([_margin(seen, layer, exact.config.experts_per_token) for layer in layers])
    return Rounding(
        n_tokens=logits.shape[0] * logits.shape[1],
        logit_error=float(difference.square().mean().sqrt() / logits.std(-1).square().mean().sqrt()),
        largest_error=float(difference.abs().max()),
        kl_divergence=float((log_p.exp() * (log_p - log_q)).sum(-1).mean()),
        same_token=float((logits.argmax(-1) == others.argmax(-1)).float().mean()),
        flips=float(flipped.float().mean()),
        flip_margin=float(torch.where(flipped, margins, 0).max()),
    )


def _flipped(seen: dict[str, Tensor], seen_too: dict[str, Tensor], layer: int) -> Tensor:
    """Whether the sets of experts differ, [batch, pos]."""
    name = f"blocks.{layer}.mlp.hook_expert_indices"
    return (seen[name].sort(-1).values != seen_too[name].sort(-1).values).any(-1)


def _margin(seen: dict[str, Tensor], layer: int, k: int) -> Tensor:
    """Between the last expert that was chosen and the first that was not, [batch, pos]; 0 where all are chosen."""
    ordered = seen[f"blocks.{layer}.mlp.hook_router_logits"].sort(-1, descending=True).values
    return ordered[..., k - 1] - ordered[..., min(k, ordered.shape[-1] - 1)]
