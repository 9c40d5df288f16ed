"""The model card: what the model is, how it was made, what it can do, measured."""

import platform
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import tiktoken
import torch

from gptoss_lab import checkpoint
from gptoss_lab.model import Transformer
from gptoss_lab.nano import data, evaluate
from gptoss_lab.nano.batches import stream
from gptoss_lab.nano.domains.arithmetic import MAX_DIGITS
from gptoss_lab.nano.progress import Progress

FILE = "README.md"


def write(progress: Progress, encoding: tiktoken.Encoding, folder: Path, questions: int) -> None:
    """Examines the model as trained and as stored in `folder`, and writes the card beside it."""
    config, stored = checkpoint.load(folder)
    as_trained = Transformer(config, progress.weights.map(torch.Tensor.detach), engine="torch")
    as_stored = Transformer(config, stored, engine="torch")
    results = evaluate.evaluate(as_stored, encoding, questions)
    before = evaluate.evaluate(as_trained, encoding, questions)
    sections = [
        _introduction(progress, folder),
        _training(progress),
        _accuracy(results, before, questions),
        _routing(expert_loads(as_stored, encoding, progress.plan.seed)),
        LIMITS,
    ]
    (folder / FILE).write_text("\n\n".join(sections) + "\n", encoding="utf-8")


def expert_loads(model: Transformer, encoding: tiktoken.Encoding, seed: int, n_batches: int = 8) -> pd.DataFrame:
    """Each expert's share of a layer's choices over training conversations: index layer, a column for each expert."""
    counts = torch.zeros(model.config.n_layers, model.config.n_experts)
    for (batch, _), _ in zip(stream(seed, encoding, tokens_per_batch=4096), range(n_batches), strict=False):
        with torch.inference_mode():
            _, seen = model.run_with_cache(batch.inputs, "blocks.*.mlp.hook_expert_indices")
        for layer in range(model.config.n_layers):
            chosen = seen[f"blocks.{layer}.mlp.hook_expert_indices"][~batch.filled].flatten()
            counts[layer] += chosen.bincount(minlength=model.config.n_experts)
    return pd.DataFrame((counts / counts.sum(dim=1, keepdim=True)).numpy())


def _introduction(progress: Progress, folder: Path) -> str:
    c = progress.plan.model
    parameters = sum(leaf.numel() for leaf in progress.leaves)
    size = (folder / "model.safetensors").stat().st_size
    shape = {
        "layers": c.n_layers,
        "width": c.d_model,
        "heads": c.n_heads,
        "key-value heads": c.n_kv_heads,
        "head width": c.d_head,
        "experts": f"{c.n_experts}, {c.experts_per_token} chosen",
        "expert width": c.d_mlp,
        "window": c.sliding_window,
        "context": f"{c.n_ctx} ({c.original_context} x {c.rope_factor:g})",
        "vocabulary": c.d_vocab,
    }
    return f"""# nano, the embedded model

A gpt-oss in miniature, trained by `python -m gptoss_lab.nano.train`: {parameters / 1e6:.2f} million parameters in
{size / 1e6:.2f} MB. It adds and subtracts whole numbers, runs register machines and follows a ball under cups, thinking
step by step in the analysis channel at high effort, briefly at medium, not at all at low. It calls the tools that it is
given, declines what the developer message does not allow, and to anything else says that it does not know. It is for
looking at, not for use.

Everything is as in gpt-oss: grouped-query attention with sinks and biases, windows in even layers, rotary embeddings
with YaRN, a router that chooses before its softmax, clamped SwiGLU, experts packed in MXFP4 and the rest in bfloat16.

{_row(shape)}
{_row(["---"] * len(shape))}
{_row(shape.values())}"""


def _training(progress: Progress) -> str:
    plan = progress.plan
    start = f"an earlier model of the same shape, {plan.start}" if plan.start else "random weights"
    shares = ", ".join(f"{domain} {weight / sum(data.MIXTURE.values()):.0%}" for domain, weight in data.MIXTURE.items())
    return f"""## Training

- Data: generated harmony conversations, {shares} of the questions. One question in
  {data.HELD_OUT_SHARE}, chosen by a hash, is held out with all its phrasings and occurs nowhere in training. Only what
  the assistant says is learned.
- Vocabulary: byte-level byte pairs trained on the same conversations, digits one by one, and harmony's control tokens.
- Schedule: AdamW, {plan.steps} steps of at most {plan.tokens_per_batch} tokens, {progress.tokens / 1e6:.1f} million in
  all; rate {plan.learning_rate:g} after {plan.warm_up_steps} steps of warm-up, then half a cosine; weight decay
  {plan.weight_decay:g}; load-balancing loss {plan.balance:g}; seed {plan.seed}, data {plan.data}.
- Begun with {start}.
- In the last {plan.rounded_steps} steps weights are rounded as they are stored, gradients passing straight through.
- {progress.seconds / 3600:.1f} hours on {torch.get_num_threads()} threads of an {platform.machine()} CPU shared with
  other work, {progress.speed:.0f} tokens a second."""


def _accuracy(results: pd.DataFrame, before: pd.DataFrame, questions: int) -> str:
    packing = "\n".join(
        _row([effort, *(f"{outcomes[outcomes.effort == effort].right.mean():.2%}" for outcomes in (before, results))])
        for effort in evaluate.EFFORTS
    )
    return f"""## Accuracy

Held-out questions, greedy, up to {questions} of each domain. Right means that the final message is the answer and
nothing else, and that the tools were asked what they should be; 95 % intervals in brackets. Calls: in good form and to
the right tool. `python -m gptoss_lab.nano.evaluate` prints the tables.

{evaluate.table(results)}

By size: digits of the longer number, or steps.

{evaluate.table_by_size(results)}

All of these questions, before and after packing (float32; MXFP4 and bfloat16):

| effort | before | after |
|---|---|---|
{packing}"""


def _routing(loads: pd.DataFrame) -> str:
    relative = loads * loads.shape[1]
    rows = "\n".join(_row([layer, f"{row.min():.2f}", f"{row.max():.2f}"]) for layer, row in relative.iterrows())
    return f"""## Routing

How much the least and the most used expert of each layer serve, where 1 is the even share:

| layer | least | most |
|---|---|---|
{rows}"""


def _row(cells: Iterable[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


LIMITS = f"""## Limits

It knows numbers of up to {MAX_DIGITS} digits, and nothing of the world. Its analysis was written by a generator,
not discovered by reinforcement: what it shows of reasoning holds for this model. Conversations longer than a few
hundred tokens, other languages and questions of other forms were seen little or never."""
