"""Trains the embedded model, through the package's own `Transformer`: what is trained is what ships.

    python -m gptoss_lab.nano.train --out FOLDER [--from FOLDER]

AdamW with warm-up and a cosine's decay; a load-balancing loss on the router (Switch Transformer, arXiv 2101.03961,
section 2.2); in the last steps every weight is rounded as the checkpoint will store it, gradients passing straight
through, so that packing costs nothing. Interrupted, the same command goes on where it stopped.
"""

import argparse
import hashlib
import sys
import time
from math import cos, pi
from pathlib import Path

import tiktoken
import torch
from torch import Tensor
from torch.nn import functional
from tqdm.auto import tqdm

from gptoss_lab import checkpoint, mxfp4, tokenizer
from gptoss_lab.hooks import HookPoint
from gptoss_lab.model import Transformer
from gptoss_lab.nano import FOLDER, card, vocabulary
from gptoss_lab.nano.batches import Batch, fingerprint, stream
from gptoss_lab.nano.progress import Plan, Progress
from gptoss_lab.weights import Weights

SAVE_EVERY = 100  # steps


def train(
    plan: Plan, encoding: tiktoken.Encoding, work: Path, start: Weights | None = None, stop_at: int | None = None
) -> Progress:
    """A training by its plan, from where `work` holds it, to its end or to a step before.

    start: the weights to begin with; random ones where not given.

    Raises ValueError where `work` holds the training of another plan.
    """
    progress = Progress.resume(plan, work, start)
    end = min(plan.steps, stop_at or plan.steps)
    batches = stream(plan.seed, encoding, plan.tokens_per_batch, progress.place)
    right = None
    with tqdm(total=plan.steps, initial=progress.step, desc="Training", unit="step", dynamic_ncols=True) as bar:
        while progress.step < end:
            started = time.monotonic()
            batch, place = next(batches)
            loss, share_right = _step(plan, progress, batch)
            right = share_right if right is None else 0.98 * right + 0.02 * share_right
            progress.advance(place, seconds=time.monotonic() - started, tokens=batch.inputs.numel())
            bar.update()
            bar.set_postfix(
                {"loss": f"{loss:.4f}", "right": f"{right:.1%}", "tokens/s": f"{progress.speed:.0f}"}, refresh=False
            )
            if progress.step % SAVE_EVERY == 0 or progress.step == end:
                progress.save(work)
    return progress


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


def learning_rate(plan: Plan, step: int) -> float:
    """Rises over the warm-up, then follows half a cosine down to nearly nothing."""
    if step < plan.warm_up_steps:
        return plan.learning_rate * (step + 1) / plan.warm_up_steps
    done = (step - plan.warm_up_steps) / max(1, plan.steps - plan.warm_up_steps)
    return plan.learning_rate * (0.01 + 0.99 * 0.5 * (1 + cos(pi * done)))


def save(progress: Progress, encoding: tiktoken.Encoding, folder: Path) -> None:
    """Writes the model as it ships: packed experts, the rest in bfloat16, its vocabulary beside it."""
    stored = progress.weights.map(lambda tensor: tensor.detach() if tensor.dim() == 3 else tensor.detach().bfloat16())
    end = encoding.encode_single_token("<|return|>")
    checkpoint.save(folder, progress.plan.model, stored, config_fields={"eos_token_id": end})
    tokenizer.save(encoding, folder)


def _step(plan: Plan, progress: Progress, batch: Batch) -> tuple[float, float]:
    """One step down the gradient; loss and the share of lessons said right."""
    rounding = progress.step >= plan.steps - plan.rounded_steps
    model = Transformer(plan.model, progress.weights.map(rounded) if rounding else progress.weights, engine="torch")
    cross_entropy, balance, right = losses(model, batch)
    (cross_entropy + plan.balance * balance).backward()
    torch.nn.utils.clip_grad_norm_(progress.leaves, 1.0)
    for group in progress.optimizer.param_groups:
        group["lr"] = learning_rate(plan, progress.step)
    progress.optimizer.step()
    progress.optimizer.zero_grad()
    return cross_entropy.item(), right


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m gptoss_lab.nano.train", description="Train the embedded model.")
    parser.add_argument(
        "--out", type=Path, default=FOLDER, help="folder for the trained model (default: the package's)"
    )
    parser.add_argument("--work", type=Path, default=Path("nano-training"), help="folder for what a resume needs")
    parser.add_argument("--from", type=Path, dest="start", help="folder of a trained model to go on with")
    parser.add_argument("--steps", type=int, default=Plan.steps)
    parser.add_argument("--rate", type=float, default=Plan.learning_rate, help="the highest learning rate")
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        _train_and_save(options)
    except (ValueError, OSError) as error:
        sys.exit(str(error))


def _train_and_save(options: argparse.Namespace) -> None:
    model, start, identity = Plan.model, None, ""
    if options.start:
        model, start = checkpoint.load(options.start)
        encoding = tokenizer.load(options.start, model.d_vocab)
        identity = hashlib.sha256((options.start / "model.safetensors").read_bytes()).hexdigest()[:8]
    else:
        encoding = vocabulary.build(model.d_vocab, options.seed)
    plan = Plan(
        model=model,
        data=fingerprint(options.seed, encoding),
        start=identity,
        seed=options.seed,
        steps=options.steps,
        learning_rate=options.rate,
        rounded_steps=options.steps // 5,
    )
    progress = train(plan, encoding, options.work, start)
    save(progress, encoding, options.out)
    card.write(progress, encoding, options.out, questions=200)


if __name__ == "__main__":
    main()
