"""The same question at every effort, side by side: how long the model thinks, what it answers, and when it knows."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Unpack, get_args

from gptoss_lab.edits import to_json
from gptoss_lab.experiments.answering import Sampling, answer_all
from gptoss_lab.experiments.intervals import bootstrap_mean, wilson
from gptoss_lab.experiments.thinking import answer_in, pace_of_answers
from gptoss_lab.experiments.workload import Limits, fingerprint, table_of, work_through
from gptoss_lab.harmony import Message, StreamParser, render
from gptoss_lab.harmony.messages import Effort
from gptoss_lab.session import Model

if TYPE_CHECKING:
    import pandas as pd

EFFORTS: tuple[Effort, ...] = get_args(Effort)
COLUMNS = (
    "effort",
    "answer",
    "right",
    "low",
    "high",
    "thought_tokens",
    "thought_low",
    "thought_high",
    "tokens",
    "ended",
    "n",
)


def by_effort(
    model: Model,
    question: str | Sequence[Message],
    right: str | None = None,
    *,
    n: int = 16,
    is_right: Callable[[str, str], bool] = str.__eq__,
    temperature: float = 1.0,
    seed: int = 0,
    max_new_tokens: int = 1024,
    **limits: Unpack[Limits],
) -> "pd.DataFrame":
    """n replies to one question at low, medium and high effort, drawn together.

    right: the right answer, where there is one; is_right judges a reply's answer by it, and by default they must be the
    same. limits: see `workload.Limits`.

    Returns columns effort, answer (the most frequent), right (the share of right answers, or of the most frequent one
    where none is given) with Wilson's 95 % interval low to high, thought_tokens (mean, all that is said before the
    final channel) with a bootstrap interval, tokens (mean), ended (the share of replies that came to an end), n.
    `attrs["answers"]` holds all answers, by effort, `attrs["judged"]` whether a right answer was given.

    Raises ValueError for a conversation that has a system message of its own, which says the effort.
    """
    if not isinstance(question, str) and any(message.role == "system" for message in question):
        raise ValueError("the conversation has a system message of its own, which says the effort: leave it out")
    prompts = [render(model.conversation(question, effort), model.tokenizer).tokens for effort in EFFORTS]
    sampling = Sampling(temperature, seed, max_new_tokens)
    asked = fingerprint("by_effort", model.name, to_json(model.edits), prompts, right, n, vars(sampling))

    def answer(number: int) -> dict[str, Any]:
        cache = model.transformer.new_cache()
        if len(prompts[number]) > 1:
            model.transformer(prompts[number][:-1], cache, last_only=True)
        caches = [cache.fork() for _ in range(n)]
        samplings = [replace(sampling, seed=seed + number * n + one) for one in range(n)]
        replies = answer_all(model, [prompts[number][-1:]] * n, caches, samplings)
        answers = [answer_in(model, reply) for reply in replies]
        most = max(answers, key=answers.count)
        hits = sum(bool(is_right(one, most if right is None else right)) for one in answers)
        thought, ended = zip(*(_thought(model, reply) for reply in replies), strict=True)
        values = (
            EFFORTS[number],
            most,
            hits / n,
            *wilson(hits, n),
            sum(thought) / n,
            *bootstrap_mean(thought, [seed, number]),
            sum(map(len, replies)) / n,
            sum(ended) / n,
            n,
        )
        return dict(zip(COLUMNS, values, strict=True)) | {"answers": answers}

    # What a reply will take nobody knows; this is a guess that errs on the side of too much.
    units = {number: n * min(max_new_tokens, 256) for number in range(len(EFFORTS))}

    def pace() -> float:
        cache = model.transformer.new_cache()
        model.transformer(prompts[0], cache, last_only=True)
        return pace_of_answers(model, cache, prompts[0][-1], n)

    rows, complete = work_through(f"Efforts, {n} replies each", units, answer, pace, asked, unit="effort", **limits)
    table = table_of(rows, COLUMNS, complete, asked)
    table.attrs["judged"] = right is not None
    table.attrs["answers"] = {EFFORTS[number]: row["answers"] for number, row in rows.items()}
    return table


def _thought(model: Model, reply: Sequence[int]) -> tuple[int, bool]:
    """How many tokens are said before the final channel, and whether the reply came to an end."""
    parser = StreamParser(model.tokenizer)
    for token in reply:
        parser.push(token)
    spans = parser.spans
    before = next((n for n, span in enumerate(spans) if span.channel == "final"), len(spans))
    return sum(span.section == "content" for span in spans[:before]), bool(spans) and spans[-1].section == "end"
