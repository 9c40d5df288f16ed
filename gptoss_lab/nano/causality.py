"""Whether the model's thinking causes its answers: on the serial domains, where each line can be executed.

    python -m gptoss_lab.nano.causality [FOLDER]

Two experiments. `forced_answers` breaks the analysis off and lets the model answer at once: an answer that does not
need the thinking would come out right all the same. `altered_states` changes a state in one line: thinking that is
used leads to what executing on from there gives, thinking that is not used leads to the old answer.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pandas as pd
import tiktoken
from tqdm.auto import tqdm

from gptoss_lab import checkpoint, harmony, tokenizer
from gptoss_lab.harmony import Message
from gptoss_lab.model import Transformer
from gptoss_lab.nano import FOLDER
from gptoss_lab.nano.batches import lesson
from gptoss_lab.nano.data import Conversation, prompt
from gptoss_lab.nano.domains import SERIAL, Problem
from gptoss_lab.nano.domains.serial import altered, answer_after, read_step
from gptoss_lab.nano.evaluate import LONGEST_REPLY, examine, held_out, interval_of, row
from gptoss_lab.nano.greedy import replies, says_verbatim

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


STEPS = 12


def table(model: Transformer, encoding: tiktoken.Encoding, questions: int, steps: int = STEPS, seed: int = 0) -> str:
    """Both experiments, and direct answers beside them, on held-out problems of so many steps: a table in Markdown."""
    columns = {domain: _column(model, encoding, domain, questions, steps, seed) for domain in tqdm(SERIAL, "Examining")}
    lines = [row([f"{steps} steps", *columns]), "|---" * (len(columns) + 1) + "|"]
    lines += [row([name, *(column[name] for column in columns.values())]) for name in next(iter(columns.values()))]
    return "\n".join(lines)


def forced_answers(
    model: Transformer, encoding: tiktoken.Encoding, problems: Sequence[Problem], shares: Sequence[float] = SHARES
) -> pd.DataFrame:
    """A row for each problem and share of its analysis: `share`, `right`, whether the answer then forced is right.

    The analysis is the one that is taught, whole lines of it; with none of it the final message comes first.
    """
    rows = []
    for share in shares:
        lessons = [lesson(_forced(problem, share), encoding) for problem in problems]
        rows += [{"share": share, "right": right} for right in says_verbatim(model, lessons)]
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Alteration:
    """A line of a problem's analysis with another state in it, one that leads to another answer."""

    problem: Problem
    thought: str
    """The analysis up to that line."""
    answer: str
    """What executing on from there gives."""


def alterations(problems: Sequence[Problem], seed: int = 0) -> list[Alteration]:
    """One for each problem; none where no change of a digit changes the answer."""
    rng = Random(seed)
    found = (_alteration(rng, problem) for problem in problems)
    return [alteration for alteration in found if alteration]


def altered_states(model: Transformer, encoding: tiktoken.Encoding, alterations: Sequence[Alteration]) -> pd.DataFrame:
    """A row for each: `followed`, whether the answer is what the altered state leads to, and `unmoved`, whether it is
    the old one.
    """
    openings = [harmony.render(prompt(one.problem, "high"), encoding).tokens for one in alterations]
    begun = [f"<|channel|>analysis<|message|>{one.thought}\n" for one in alterations]
    thoughts = [encoding.encode(text, allowed_special="all") for text in begun]
    prompts = [[*opening, *thought] for opening, thought in zip(openings, thoughts, strict=True)]
    rows = []
    for one, text, reply in zip(alterations, begun, replies(model, encoding, prompts, LONGEST_REPLY), strict=True):
        final = _final(text, reply, encoding)
        rows.append({"followed": final == one.answer, "unmoved": final == one.problem.answer})
    return pd.DataFrame(rows)


def _column(
    model: Transformer, encoding: tiktoken.Encoding, domain: str, questions: int, steps: int, seed: int
) -> dict[str, str]:
    """A domain's share of right answers under each condition."""
    problems = held_out(domain, questions, seed, size=steps)
    direct = pd.Series([outcome.right for outcome in examine(model, encoding, problems, "low")])
    forced = forced_answers(model, encoding, problems).groupby("share").right
    changed = altered_states(model, encoding, alterations(problems, seed))
    return {
        "questions": str(len(problems)),
        "answered at once, at low effort": interval_of(direct),
        **{f"forced to answer after {share:.0%} of the analysis": interval_of(right) for share, right in forced},
        "a state altered: the answer that it leads to": interval_of(changed.followed),
        "a state altered: the answer as before": interval_of(changed.unmoved),
    }


def _forced(problem: Problem, share: float) -> Conversation:
    lines = problem.thoughts["high"].splitlines()
    kept = "\n".join(lines[: round(share * len(lines))])
    thought = [Message("assistant", kept, channel="analysis")] if kept else []
    given = [*prompt(problem, "high"), *thought]
    return Conversation((*given, Message("assistant", problem.answer, channel="final")), frozenset({len(given)}))


def _alteration(rng: Random, problem: Problem) -> Alteration | None:
    domain = SERIAL[problem.domain]
    lines = problem.thoughts["high"].splitlines()
    for number in rng.sample(range(len(lines) - 1), k=len(lines) - 1):
        step = read_step(lines[number])
        if step is None:
            continue
        other = altered(rng, step, domain.digits)
        answer = answer_after(domain, problem.question, other)
        if answer not in (None, problem.answer):
            return Alteration(problem, "\n".join([*lines[:number], str(other)]), answer)
    return None


def _final(begun: str, reply: Sequence[int], encoding: tiktoken.Encoding) -> str | None:
    """The final message of a reply that went on from what was begun; None where it has none."""
    parser = harmony.StreamParser(encoding, starts_after=f"<|start|>assistant{begun}")
    for token in reply:
        parser.push(token)
    last = parser.messages[-1]
    return last.content if last.channel == "final" and last.complete else None


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m gptoss_lab.nano.causality", description="Examine whether a model's thinking causes its answers."
    )
    parser.add_argument(
        "folder", type=Path, nargs="?", default=FOLDER, help="a checkpoint (default: the embedded model)"
    )
    parser.add_argument("--questions", type=int, default=500, help="of each serial domain (default: 500)")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"how many each takes (default: {STEPS})")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    config, weights = checkpoint.load(options.folder)
    encoding = tokenizer.load(options.folder, config.d_vocab)
    model = Transformer(config, weights, engine="torch")
    print(table(model, encoding, options.questions, options.steps, options.seed))


if __name__ == "__main__":
    main()
