"""Trains the embedded model, through the package's own `Transformer`: what is trained is what ships.

    python -m gptoss_lab.nano.train --out FOLDER [--from FOLDER] [--more DOMAIN ...]

AdamW with warm-up and a cosine's decay; a load-balancing loss on the router (Switch Transformer, arXiv 2101.03961,
section 2.2); in the last steps every weight is rounded as the checkpoint will store it, gradients passing straight
through, so that packing costs nothing. Interrupted, the same command goes on where it stopped.
"""

import argparse
import hashlib
import sys
import time
from collections.abc import Sequence
from itertools import islice
from math import cos, pi
from pathlib import Path

import tiktoken
import torch
from tqdm.auto import tqdm

from gptoss_lab import checkpoint, tokenizer
from gptoss_lab.config import ModelConfig
from gptoss_lab.nano import FOLDER, card, vocabulary
from gptoss_lab.nano.batches import Batch, fingerprint, stream
from gptoss_lab.nano.data import MIXTURE
from gptoss_lab.nano.gradients import Gradients
from gptoss_lab.nano.progress import Plan, Progress
from gptoss_lab.weights import Weights

SAVE_EVERY = 100  # steps


def train(
    plan: Plan,
    encoding: tiktoken.Encoding,
    work: Path,
    start: Weights | None = None,
    stop_at: int | None = None,
    processes: int = 1,
) -> Progress:
    """A training by its plan, from where `work` holds it, to its end or to a step before.

    start: the weights to begin with; random ones where not given.
    processes: how many compute the batches of a step side by side.

    Raises ValueError where `work` holds the training of another plan.
    """
    progress = Progress.resume(plan, work, start)
    end = min(plan.steps, stop_at or plan.steps)
    batches = stream(plan.seed, encoding, plan.tokens_per_batch, progress.place, more=plan.more_of)
    right = None
    with (
        Gradients(plan, progress, processes) as gradients,
        tqdm(total=plan.steps, initial=progress.step, desc="Training", unit="step", dynamic_ncols=True) as bar,
    ):
        while progress.step < end:
            started = time.monotonic()
            taken, places = zip(*islice(batches, plan.batches_per_step), strict=True)
            loss, share_right = _step(plan, progress, gradients, taken)
            right = share_right if right is None else 0.98 * right + 0.02 * share_right
            tokens = sum(batch.inputs.numel() for batch in taken)
            progress.advance(places[-1], seconds=time.monotonic() - started, tokens=tokens)
            bar.update()
            bar.set_postfix(
                {"loss": f"{loss:.4f}", "right": f"{right:.1%}", "tokens/s": f"{progress.speed:.0f}"}, refresh=False
            )
            if progress.step % SAVE_EVERY == 0 or progress.step == end:
                progress.save(work)
    return progress


def learning_rate(plan: Plan, step: int) -> float:
    """Rises over the warm-up, then follows half a cosine down to nearly nothing."""
    if step < plan.warm_up_steps:
        return plan.learning_rate * (step + 1) / plan.warm_up_steps
    done = (step - plan.warm_up_steps) / max(1, plan.steps - plan.warm_up_steps)
    return plan.learning_rate * (0.01 + 0.99 * 0.5 * (1 + cos(pi * done)))


def store(weights: Weights, model: ModelConfig, encoding: tiktoken.Encoding, folder: Path) -> None:
    """Writes a model as it ships: packed experts, the rest in bfloat16, its vocabulary beside it."""
    stored = weights.map(lambda tensor: tensor.detach() if tensor.dim() == 3 else tensor.detach().bfloat16())
    end = encoding.encode_single_token("<|return|>")
    checkpoint.save(folder, model, stored, config_fields={"eos_token_id": end})
    tokenizer.save(encoding, folder)


def _step(plan: Plan, progress: Progress, gradients: Gradients, batches: Sequence[Batch]) -> tuple[float, float]:
    """One step down the gradient; loss and the share of lessons said right."""
    loss, right = gradients(batches, rounding=progress.step >= plan.steps - plan.rounded_steps)
    torch.nn.utils.clip_grad_norm_(progress.leaves, 1.0)
    for group in progress.optimizer.param_groups:
        group["lr"] = learning_rate(plan, progress.step)
    progress.optimizer.step()
    return loss, right


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
    parser.add_argument(
        "--more",
        nargs="+",
        choices=MIXTURE,
        default=[],
        metavar="DOMAIN",
        help="as much again of these, each time that they are named",
    )
    parser.add_argument("--processes", type=int, default=torch.get_num_threads(), help="how many, of one thread each")
    options = parser.parse_args(arguments)
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
        data=fingerprint(options.seed, encoding, options.more),
        start=identity,
        seed=options.seed,
        more=",".join(options.more),
        steps=options.steps,
        learning_rate=options.rate,
        rounded_steps=options.steps // 10,
    )
    progress = train(plan, encoding, options.work, start, processes=options.processes)
    store(progress.weights, plan.model, encoding, options.out)
    card.write(progress, encoding, options.out, questions=200)


if __name__ == "__main__":
    main()
