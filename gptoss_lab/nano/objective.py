"""What the training of the embedded model minimises, and the rounding that it does so under."""

import torch
from torch import Tensor
from torch.nn import functional

from gptoss_lab import mxfp4
from gptoss_lab.hooks import HookPoint
from gptoss_lab.model import Transformer
from gptoss_lab.nano.batches import Batch


def losses(model: Transformer, batch: Batch) -> tuple[Tensor, Tensor, float]:
    """Cross-entropy of the taught tokens, the routers' imbalance, and the share of lessons said right from end to
    end.
    """
    router_logits: list[Tensor] = []

    def keep(tensor: Tensor, hook: HookPoint) -> None:
        router_logits.append(tensor)

    logits = model.run_with_hooks(batch.inputs, [("blocks.*.mlp.hook_router_logits", keep)])
    taught = batch.taught.flatten().nonzero().squeeze(1)
    said = logits.flatten(0, 1).index_select(0, taught)
    cross_entropy = functional.cross_entropy(said, batch.targets.flatten()[taught])
    wrong = batch.taught & (logits.detach().argmax(-1) != batch.targets)
    read = (~batch.filled).flatten().nonzero().squeeze(1)
    chosen = model.config.experts_per_token
    balance = torch.stack([imbalance(layer.flatten(0, 1).index_select(0, read), chosen) for layer in router_logits])
    return cross_entropy, balance.mean(), 1 - wrong.any(dim=1).float().mean().item()


def imbalance(router_logits: Tensor, experts_per_token: int) -> Tensor:
    """1 where all experts of a layer are used alike, up to n_experts / k where the same k serve every token.

    router_logits: [tokens, expert]. Equation 4 of arXiv 2101.03961, with the k choices of a token counted as one.
    """
    n_experts = router_logits.shape[-1]
    chosen = router_logits.topk(experts_per_token, dim=-1).indices.flatten()
    load = chosen.bincount(minlength=n_experts) / len(chosen)
    return n_experts * (load * router_logits.softmax(dim=-1).mean(dim=0)).sum()


def rounded(tensor: Tensor) -> Tensor:
    """A tensor as the checkpoint will hold it (experts, which have three axes, in MXFP4, all else in bfloat16), in
    float32.

    Its gradient is that of the tensor itself (straight-through estimator, arXiv 1308.3432).
    """
    with torch.no_grad():
        stored = mxfp4.decode(mxfp4.encode(tensor)) if tensor.dim() == 3 else tensor.bfloat16().float()
    return tensor + (stored - tensor).detach()
