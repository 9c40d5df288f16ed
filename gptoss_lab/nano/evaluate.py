"""Examines a model on held-out questions, greedily, at each effort.

    python -m gptoss_lab.nano.evaluate [FOLDER] [--questions N]

A reply is right if its final message is the answer and nothing else; it is well-formed if it has the channels that the
effort asks for and ends by itself.
"""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from random import Random

import pandas as pd
import tiktoken
import torch
from tqdm.auto import tqdm

from gptoss_lab import checkpoint, harmony, tokenizer
from gptoss_lab.model import Transformer
from gptoss_lab.nano import FOLDER
from gptoss_lab.nano.batches import Lesson, lesson, side_by_side
from gptoss_lab.nano.data import Conversation, draw, prompt, reply
from gptoss_lab.nano.domains import DOMAINS, Effort, Problem

EFFORTS: tuple[Effort, ...] = ("high", "medium", "low")
LONGEST_REPLY = 400  # tokens; the longest that is taught has about 200
ROWS = 32  # lessons that are read together


@dataclass(frozen=True)
class Outcome:
    right: bool
    well_formed: bool


def evaluate(
    model: Transformer,
    encoding: tiktoken.Encoding,
    questions: int = 200,
    seed: int = 0,
    efforts: Sequence[Effort] = EFFORTS,
) -> pd.DataFrame:
    """A row for each domain, size and effort: `right` and `well_formed` (shares), `low` and `high` (95 % interval of
    right), `questions`.

    questions: how many of each domain and size; fewer where held-out ones are that few (one-digit sums).
    """
    rows = []
    exam = [(domain, problems) for domain in DOMAINS for problems in held_out(domain, questions, seed).items()]
    with tqdm(total=len(exam) * len(efforts), desc="Examining", unit="set") as bar:
        for domain, (size, problems) in exam:
            for effort in efforts:
                outcomes = examine(model, encoding, problems, effort)
                right = sum(outcome.right for outcome in outcomes)
                low, high = wilson_interval(right, len(outcomes))
                rows.append(
                    {
                        "domain": domain,
                        "digits": size or None,
                        "effort": effort,
                        "questions": len(outcomes),
                        "right": right / len(outcomes),
                        "low": low,
                        "high": high,
                        "well_formed": sum(outcome.well_formed for outcome in outcomes) / len(outcomes),
                    }
                )
                bar.update()
    return pd.DataFrame(rows)


def held_out(domain: str, questions: int, seed: int) -> dict[int, list[Problem]]:
    """Distinct held-out problems of a domain, by size, up to `questions` of each."""
    rng = Random(f"held-out/{seed}/{domain}")
    found: dict[int, dict[str, Problem]] = {}
    for _ in range(20 * questions):
        problem = draw(rng, domain, "held-out")
        same_size = found.setdefault(problem.size, {})
        if len(same_size) < questions:
            same_size.setdefault(problem.identity, problem)
    return {size: list(found[size].values()) for size in sorted(found)}


def examine(
    model: Transformer, encoding: tiktoken.Encoding, problems: Sequence[Problem], effort: Effort
) -> list[Outcome]:
    """What comes of putting each problem to the model.

    Where every token of the expected reply is the most probable one after those before it, greedy sampling would say
    just that; only the other replies need to be sampled.
    """
    verbatim = said_verbatim(model, encoding, problems, effort)
    others = [problem for problem, as_expected in zip(problems, verbatim, strict=True) if not as_expected]
    sampled = iter(sample(model, encoding, others, effort))
    return [Outcome(True, True) if as_expected else next(sampled) for as_expected in verbatim]


def said_verbatim(
    model: Transformer, encoding: tiktoken.Encoding, problems: Sequence[Problem], effort: Effort
) -> list[bool]:
    """For each problem, whether greedy sampling gives the expected reply, thought included, token for token."""
    lessons = [lesson(_expected(problem, effort), encoding) for problem in problems]
    in_order = sorted(range(len(lessons)), key=lambda n: len(lessons[n].inputs))
    verbatim = dict(zip(in_order, _all_likeliest(model, [lessons[n] for n in in_order]), strict=True))
    return [verbatim[n] for n in range(len(lessons))]


def sample(
    model: Transformer, encoding: tiktoken.Encoding, problems: Sequence[Problem], effort: Effort
) -> list[Outcome]:
    """What comes of each problem by sampling greedily; those with equally long prompts together."""
    prompts = [harmony.render(prompt(problem, effort), encoding).tokens for problem in problems]
    by_length: dict[int, list[int]] = {}
    for number, tokens in enumerate(prompts):
        by_length.setdefault(len(tokens), []).append(number)
    outcomes = {}
    for numbers in by_length.values():
        replies = _greedy_replies(model, encoding, [prompts[number] for number in numbers])
        for number, tokens in zip(numbers, replies, strict=True):
            outcomes[number] = _judged(tokens, encoding, problems[number], effort)
    return [outcomes[number] for number in range(len(problems))]


def wilson_interval(right: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927), which keeps its meaning near 0 and 1."""
    z, share = 1.96, right / of
    middle = share + z * z / (2 * of)
    half = z * sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    scale = 1 + z * z / of
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def table(results: pd.DataFrame) -> str:
    """Results as a table in Markdown: a row for each domain and size, a column for each effort."""
    efforts = list(dict.fromkeys(results.effort))
    lines = [
        "| domain | digits | questions | " + " | ".join(f"{effort} effort" for effort in efforts) + " | well-formed |",
        "|---|---|---|" + "---|" * (len(efforts) + 1),
    ]
    for (domain, digits), group in results.groupby(["domain", "digits"], dropna=False, sort=False):
        cells = [f"{row.right:.1%} ({row.low:.1%} to {row.high:.1%})" for row in group.itertuples()]
        size = "" if pd.isna(digits) else str(int(digits))
        cells = [domain, size, str(group.questions.iloc[0]), *cells, f"{group.well_formed.mean():.1%}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _expected(problem: Problem, effort: Effort) -> Conversation:
    given, said = prompt(problem, effort), reply(problem, effort)
    return Conversation((*given, *said), frozenset(range(len(given), len(given) + len(said))))


def _all_likeliest(model: Transformer, lessons: Sequence[Lesson]) -> Iterable[bool]:
    for first in range(0, len(lessons), ROWS):
        batch = side_by_side(lessons[first : first + ROWS])
        with torch.inference_mode():
            likeliest = model(batch.inputs).argmax(-1)
        yield from (~(batch.taught & (likeliest != batch.targets)).any(dim=1)).tolist()


def _greedy_replies(
    model: Transformer, encoding: tiktoken.Encoding, prompts: Sequence[Sequence[int]]
) -> list[list[int]]:
    """The most probable tokens after each of several equally long prompts, <|return|> included if it comes."""
    stop = encoding.encode_single_token("<|return|>")
    replies: list[list[int]] = [[] for _ in prompts]
    caches = [model.new_cache() for _ in prompts]
    going, tokens = list(range(len(prompts))), torch.tensor(prompts)
    while going and len(replies[going[0]]) < LONGEST_REPLY:
        with torch.inference_mode():
            logits = model(tokens, [caches[number] for number in going], last_only=True)
        for number, token in zip(going, logits[:, -1].argmax(-1).tolist(), strict=True):
            replies[number].append(token)
        going = [number for number in going if replies[number][-1] != stop]
        tokens = torch.tensor([replies[number][-1:] for number in going])
    return replies


def _judged(tokens: Sequence[int], encoding: tiktoken.Encoding, problem: Problem, effort: Effort) -> Outcome:
    parser = harmony.StreamParser(encoding)
    for token in tokens:
        parser.push(token)
    said, expected = parser.messages, reply(problem, effort)
    well_formed = (
        tokens[-1] == encoding.encode_single_token("<|return|>")
        and [message.channel for message in said] == [message.channel for message in expected]
        and not any(message.malformed for message in said)
    )
    return Outcome(well_formed and said[-1].content == problem.answer, well_formed)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m gptoss_lab.nano.evaluate", description="Examine a trained model.")
    parser.add_argument(
        "folder", type=Path, nargs="?", default=FOLDER, help="a checkpoint (default: the embedded model)"
    )
    parser.add_argument("--questions", type=int, default=200, help="of each domain and number of digits (default: 200)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    config, weights = checkpoint.load(options.folder)
    model = Transformer(config, weights, engine="torch")
    print(table(evaluate(model, tokenizer.load(options.folder, config.d_vocab), options.questions, options.seed)))


if __name__ == "__main__":
    main()
