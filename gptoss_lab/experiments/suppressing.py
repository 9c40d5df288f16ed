"""Suppressing attention to a step: which later steps change, if no later token looks at it any more?

The sentence-to-sentence influence matrix of "Thought Anchors" (Bogdan, Macar, Nanda and Conmy 2025, arXiv 2506.19143),
section 5: the text stays as it is, and what the model expects of every later token is compared with and without.
"""

from typing import TYPE_CHECKING, Any, Unpack

from gptoss_lab.edits import knock_out_attention
from gptoss_lab.experiments.divergence import keeping_final_residual, kl_divergence
from gptoss_lab.experiments.intervals import bootstrap_mean
from gptoss_lab.experiments.thinking import Question, Thinking, pace_of_reading, setting_of, thinking_of
from gptoss_lab.experiments.workload import Limits, fingerprint, table_of, work_through
from gptoss_lab.segments import Unit
from gptoss_lab.session import Model

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("step", "text", "on", "on_text", "kl", "low", "high", "n")


def suppress(
    model: Model,
    of: Question,
    *,
    by: Unit = "sentence",
    renormalise: bool = False,
    seed: int = 0,
    **limits: Unpack[Limits],
) -> "pd.DataFrame":
    """How far expectations of each later step move when attention to a step is knocked out, in all layers and heads.

    of, by, limits: as for `forced_answer`. renormalise: whether what is left of a pattern shares out the mass, as in
    `edits.knock_out_attention`. seed: of the intervals.

    Returns a row for every step and later one: step, text (suppressed); on, on_text (the later one; the answer counts
    as the step after the last); kl, KL(before || after) in nats a token; low and high, a 95 % bootstrap interval over
    its tokens, of which there are n. As a matrix: table.pivot(index="on", columns="step", values="kl").

    An influence may be direct or by way of steps between; this does not tell which. Raises ValueError for a reply
    without a thought, and as `workload.work_through` does.
    """
    thinking = thinking_of(model, of, by)
    asked = fingerprint("suppress", *setting_of(model, thinking), renormalise, seed)
    cache = model.transformer.new_cache()
    with keeping_final_residual(model.transformer) as seen:
        model.transformer(thinking.ids, cache, last_only=True)
    before = seen[0][0]
    targets = _targets(model, thinking)

    def knock_out(number: int) -> dict[str, Any]:
        step = thinking.steps[number - 1]
        here = cache.fork()
        here.rewind(step.stop)
        edit = knock_out_attention(slice(step.stop, None), slice(step.start, step.stop), renormalise=renormalise)
        with model.edit(edit), keeping_final_residual(model.transformer) as after:
            model.transformer(thinking.ids[step.stop :], here, last_only=True)
        moved = kl_divergence(model.transformer, before[step.stop :], after[0][0])
        found = []
        for on, start, stop, text in targets:
            if start >= step.stop:
                # What is expected of a token is what the token before it left behind.
                of_target = moved[max(start - 1 - step.stop, 0) : stop - 1 - step.stop]
                low, high = bootstrap_mean(of_target, [seed, number, on])
                kl = float(of_target.sum()) / (stop - start)
                values = (number, step.text, on, text, kl, low, high, stop - start)
                found.append(dict(zip(COLUMNS, values, strict=True)))
        return {"rows": found}

    last = targets[-1][0]
    units = {step.number: len(thinking.ids) - step.stop for step in thinking.steps if step.number < last}
    rows, complete = work_through(
        "Suppressing attention", units, knock_out, lambda: pace_of_reading(model, thinking.ids), asked, **limits
    )
    return table_of(rows, COLUMNS, complete, asked)


def _targets(model: Model, thinking: Thinking) -> list[tuple[int, int, int, str]]:
    """Number, start, stop and text of every step, the answer among them."""
    found = [(step.number, step.start, step.stop, step.text) for step in thinking.steps]
    if thinking.answer_ids:
        start = thinking.answer_start
        found.append((len(found) + 1, start, start + len(thinking.answer_ids), thinking.answer))
    return found
