"""The model card: what the model is, how it was made, what it can do, measured.

    python -m gptoss_lab.nano.card [FOLDER] --work WORK [--earlier WORK ...]

writes it for the model that a training, whose folder WORK is, has left in FOLDER.
"""

import argparse
import platform
import shlex
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import tiktoken
import torch

from gptoss_lab import checkpoint, tokenizer
from gptoss_lab.model import Transformer
from gptoss_lab.nano import FOLDER, causality, data, evaluate, expert_use
from gptoss_lab.nano.batches import stream
from gptoss_lab.nano.domains.arithmetic import MAX_DIGITS
from gptoss_lab.nano.domains.browser import LINES
from gptoss_lab.nano.domains.functions import DESCRIPTIONS
from gptoss_lab.nano.evaluate import row
from gptoss_lab.nano.progress import Plan, Progress
from gptoss_lab.views.plain_text import visible

FILE = "README.md"


def write(
    progress: Progress,
    encoding: tiktoken.Encoding,
    folder: Path,
    questions: int,
    earlier: Sequence[Progress] = (),
) -> None:
    """Examines the model as trained and as stored in `folder`, and writes the card beside it.

    earlier: the trainings that this one went on from, the first one first.
    """
    config, stored = checkpoint.load(folder)
    as_trained = Transformer(config, progress.weights.map(torch.Tensor.detach), engine="torch")
    as_stored = Transformer(config, stored, engine="torch")
    results = evaluate.evaluate(as_stored, encoding, questions)
    before = evaluate.evaluate(as_trained, encoding, questions, efforts=("high",))
    sections = [
        _introduction(progress, folder),
        _training(progress, earlier),
        _accuracy(results, before, questions),
        _causality(as_stored, encoding, questions),
        _routing(expert_loads(as_stored, encoding, progress.plan.seed)),
        _expert_use(as_stored, encoding, min(questions, 100)),
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

{row(shape)}
{row(["---"] * len(shape))}
{row(shape.values())}"""


def _training(progress: Progress, earlier: Sequence[Progress]) -> str:
    shares = ", ".join(f"{domain} {weight / sum(data.MIXTURE.values()):.0%}" for domain, weight in data.MIXTURE.items())
    trainings = [*earlier, progress]
    begun = f"another model, {trainings[0].plan.start}" if trainings[0].plan.start else "random weights"
    tokens, seconds = (sum(getattr(one, count) for one in trainings) for count in ("tokens", "seconds"))
    told = f"""\
Data: generated harmony conversations, {shares} of the questions. One question in {data.HELD_OUT_SHARE}, chosen by a
hash, is held out with all its phrasings and occurs nowhere in training. Only what the assistant says is learned.

Vocabulary: byte-level byte pairs trained on the same conversations, digits one by one, and harmony's control tokens.

Begun with {begun}. In the last steps of a training weights are rounded as they are stored, gradients passing straight
through.

{"".join(_schedule(one.plan, one.tokens) for one in trainings)}
{tokens / 1e6:.1f} million tokens in all, in {seconds / 3600:.1f} hours on one or two cores of an {platform.machine()}
CPU shared with other work: {tokens / seconds:.0f} tokens a second."""
    items = [
        textwrap.fill(item.strip(), 118, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False)
        for item in told.split("\n\n")
    ]
    return "## Training\n\n" + "\n".join(items)


def _schedule(plan: Plan, tokens: int) -> str:
    options = ["--seed", str(plan.seed), "--steps", str(plan.steps), "--rate", f"{plan.learning_rate:g}"]
    options += ["--more", *plan.more_of] if plan.more else []
    command = f"`python -m gptoss_lab.nano.train {shlex.join(options)}`"
    origin = f" `--from` the model before, {plan.start}" if plan.start else ""
    named = Counter(plan.more_of)
    again = {n: ", ".join(domain for domain in named if named[domain] == n) for n in sorted(set(named.values()))}
    more = "".join(f"; {'twice' if n == 1 else f'{n + 1} times'} as much of {domains}" for n, domains in again.items())
    return f"""\
{command}{origin}: AdamW, {plan.batches_per_step} batches of at most {plan.tokens_per_batch} tokens a step,
{tokens / 1e6:.1f} million in all; the rate after {plan.warm_up_steps} steps of warm-up, then half a cosine; weight
decay {plan.weight_decay:g}; load-balancing loss {plan.balance:g}; rounded in the last {plan.rounded_steps} steps; data
{plan.data}{more}.

"""


def _accuracy(results: pd.DataFrame, before: pd.DataFrame, questions: int) -> str:
    packed, plain = (outcomes.right[outcomes.effort == "high"].mean() for outcomes in (results, before))
    return f"""## Accuracy

Held-out questions, greedy, up to {questions} of each domain. Right means that the final message is the answer and
nothing else, and that the tools were asked what they should be; 95 % intervals in brackets. Calls: in good form and to
the right tool; these and well-formed replies at high, medium and low effort. `python -m gptoss_lab.nano.evaluate`
prints the tables.

{evaluate.table(results)}

By size: digits of the longer number, or steps.

{evaluate.table_by_size(results)}

All of these questions at high effort: {plain:.2%} right before packing (float32), {packed:.2%} after (MXFP4 and
bfloat16)."""


def _causality(model: Transformer, encoding: tiktoken.Encoding, questions: int) -> str:
    return f"""## Does its thinking cause its answers?

On the serial domains, where each line of analysis can be executed. The analysis that is taught is broken off after
whole lines and the final message begun; or it is broken off after a line in which one digit of the state was changed,
and the model goes on from there. As many questions were answered at once in training as with an analysis. `python -m
gptoss_lab.nano.causality` prints the table.

{causality.table(model, encoding, questions)}"""


def _routing(loads: pd.DataFrame) -> str:
    relative = loads * loads.shape[1]
    rows = "\n".join(row([layer, f"{loads.min():.2f}", f"{loads.max():.2f}"]) for layer, loads in relative.iterrows())
    return f"""## Routing

How much the least and the most used expert of each layer serve, where 1 is the even share:

| layer | least | most |
|---|---|---|
{rows}"""


def _expert_use(model: Transformer, encoding: tiktoken.Encoding, questions: int) -> str:
    of = expert_use.served(model, encoding, questions)
    told = "\n".join(
        row([layer, f"{bits.corrected:.3f} ({bits.low:.3f} to {bits.high:.3f})", f"{bits.control_high:.3f}"])
        for layer, bits in expert_use.information(of).iterrows()
    )
    lost = "\n".join(
        row(
            [
                one.domain,
                f"{one.layer}/{one.expert}",
                f"{one.right:.0%}",
                f"{one.without_it:.0%}",
                f"{one.without_other:.0%} ({one.layer}/{one.other})",
                f"{100 * one.further_loss:.0f} ({100 * one.low:.0f} to {100 * one.high:.0f})",
            ]
        )
        for one in expert_use.losses(model, encoding, of, questions).itertuples()
    )
    used = "\n".join(
        row([one.layer, one.expert, f"{one.load:.2f}", one.domain, f"{one.lift:.1f} ({one.control:.1f})", _quoted(one)])
        for one in expert_use.uses(of, encoding).itertuples()
    )
    return f"""## What the experts are for

Counted where the model speaks, on {questions} held-out questions of each domain at high effort; `python -m
gptoss_lab.nano.expert_use` prints all of it.

What an expert tells of the domain beyond what the token itself tells, in bits, corrected for chance (mutual information
conditional on the token), with a 95 % interval; beside it what 95 of 100 exchanges of the domains among conversations
stay below, before the correction:

| layer | bits | exchanged |
|---|---|---|
{told}

The expert (layer/expert) that each domain chooses most beyond the others is masked, and another of the same layer that
has as much to do in all. Share of right answers, and how many points more are lost without the first (95 % interval):

| domain | expert | right | without it | without another | points |
|---|---|---|---|---|---|
{lost}

What each expert is used for. Load: 1 is the even share. Lift: how much more often the named domain chooses it than all
do, beside it what 95 of 100 exchanges stay below. Tokens: those that it is most typical of.

| layer | expert | load | domain | lift | tokens |
|---|---|---|---|---|---|
{used}"""


def _quoted(one: Any) -> str:
    """An expert's tokens so that every character shows and none ends the table's cell."""
    return " ".join(f"`{visible(token)}`".replace("\n", "↵").replace("|", "\\|") for token in one.tokens)


LIMITS = f"""## Limits

It knows numbers of up to {MAX_DIGITS} digits, and nothing of the world. Its analysis was written by a generator,
not discovered by reinforcement: what it shows of reasoning holds for this model. Conversations longer than a few
hundred tokens, other languages and questions of other forms were seen little or never. What a function gives is said in
{len(DESCRIPTIONS)} forms of a sentence ("Gives a town's mayor.", "The mayor of a town."), or by its name alone; what a
page tells, in {len(LINES)} ("mayor: Ada", "Its mayor is Ada."). Other wordings of these are not taught. Spelling, word
problems, stories, a second language and Python expressions are not taught either."""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m gptoss_lab.nano.card", description="Write the model's card.")
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER, help="its checkpoint (default: the embedded)")
    parser.add_argument("--work", type=Path, default=Path("nano-training"), help="the folder of its training")
    parser.add_argument("--earlier", type=Path, nargs="+", default=[], help="the folders of those it went on from")
    parser.add_argument("--questions", type=int, default=500, help="of each domain (default: 500)")
    options = parser.parse_args(arguments)
    progress = Progress.read(options.work)
    encoding = tokenizer.load(options.folder, progress.plan.model.d_vocab)
    write(progress, encoding, options.folder, options.questions, [Progress.read(one) for one in options.earlier])


if __name__ == "__main__":
    main()
