"""Examines a model on held-out questions, greedily, at each effort.

    python -m gptoss_lab.nano.evaluate [FOLDER] [--questions N]

A reply is right if its final message is the answer and nothing else, and if the tools were asked for what they should
be asked. It is well-formed if it has the channels that the effort asks for, headers in harmony's form, and ends by
itself. A tool answers as the problem has it, true or false, if it is the one that should be called.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
import tiktoken
from tqdm.auto import tqdm

from gptoss_lab import checkpoint, harmony, tokenizer
from gptoss_lab.experiments.intervals import wilson
from gptoss_lab.harmony import Message, tool_result
from gptoss_lab.model import Transformer
from gptoss_lab.nano import FOLDER
from gptoss_lab.nano.batches import lesson
from gptoss_lab.nano.data import call_message, draw, example, prompt
from gptoss_lab.nano.domains import DOMAINS, SERIAL, Call, Effort, Problem
from gptoss_lab.nano.greedy import replies, says_verbatim

EFFORTS: tuple[Effort, ...] = ("high", "medium", "low")
LONGEST_REPLY = 500  # tokens, up to a call or the end; the longest that is taught has about 350


@dataclass(frozen=True)
class Outcome:
    right: bool
    well_formed: bool
    called: bool | None
    """Whether each call came, in good form, and to the right tool; None where there is none to make."""


def evaluate(
    model: Transformer,
    encoding: tiktoken.Encoding,
    questions: int = 500,
    seed: int = 0,
    efforts: Sequence[Effort] = EFFORTS,
    domains: Sequence[str] = tuple(DOMAINS),
) -> pd.DataFrame:
    """A row for each question and effort: domain, size, effort, right, well_formed, called (None without calls).

    questions: how many of each domain; fewer where there are not as many.
    """
    rows = []
    with tqdm(total=len(domains) * len(efforts), desc="Examining", unit="set") as bar:
        for domain in domains:
            problems = held_out(domain, questions, seed)
            for effort in efforts:
                for problem, outcome in zip(problems, examine(model, encoding, problems, effort), strict=True):
                    rows.append({"domain": domain, "size": problem.size, "effort": effort, **asdict(outcome)})
                bar.update()
    return pd.DataFrame(rows)


def held_out(domain: str, questions: int, seed: int, size: int | None = None) -> list[Problem]:
    """Distinct held-out problems of a domain, up to `questions`, of one size or of any."""
    rng = Random(f"held-out/{seed}/{domain}")
    found: dict[str, Problem] = {}
    for _ in range(50 * questions):
        problem = draw(rng, domain, "held-out")
        if size in (None, problem.size):
            found.setdefault(problem.identity, problem)
        if len(found) == questions:
            break
    return list(found.values())


def examine(
    model: Transformer, encoding: tiktoken.Encoding, problems: Sequence[Problem], effort: Effort
) -> list[Outcome]:
    """What comes of putting each problem to the model. Only what it does not say as expected needs to be sampled."""
    expected = [lesson(example(problem, effort), encoding) for problem in problems]
    verbatim = says_verbatim(model, expected)
    others = [problem for problem, as_expected in zip(problems, verbatim, strict=True) if not as_expected]
    talks = iter(converse(model, encoding, others, effort))
    return [
        Outcome(True, True, True if problem.calls else None) if as_expected else judge(problem, effort, next(talks))
        for problem, as_expected in zip(problems, verbatim, strict=True)
    ]


def converse(
    model: Transformer, encoding: tiktoken.Encoding, problems: Sequence[Problem], effort: Effort
) -> list[list[Message]]:
    """What follows each question: the model's messages, and what the tools say to them. The last one is not complete
    where the reply did not end by itself.
    """
    tokens = [harmony.render(prompt(problem, effort), encoding).tokens for problem in problems]
    talks: list[list[Message]] = [[] for _ in problems]
    going = list(range(len(problems)))
    while going:
        said = replies(model, encoding, [tokens[number] for number in going], LONGEST_REPLY)
        called = []
        for number, reply in zip(going, said, strict=True):
            talks[number] += _messages(reply, encoding)
            if (result := _result(problems[number], talks[number])) is not None:
                talks[number].append(result)
                tokens[number] = [*tokens[number], *reply, *harmony.render([result], encoding).tokens]
                called.append(number)
        going = called
    return talks


def judge(problem: Problem, effort: Effort, talk: Sequence[Message]) -> Outcome:
    said = [message for message in talk if message.recipient != "assistant"]
    calls = [message for message in said if message.recipient]
    pairs = list(zip(calls, problem.calls, strict=False))
    as_many = len(calls) == len(problem.calls)
    called = as_many and all(_well_called(made, call) for made, call in pairs)
    asked = as_many and all(_asks_the_same(made, call) for made, call in pairs)
    well_formed = _well_formed(said, effort)
    right = well_formed and asked and said[-1].content == problem.answer
    return Outcome(right, well_formed, called if problem.calls else None)


def table(outcomes: pd.DataFrame) -> str:
    """Outcomes as a table in Markdown: a row for each domain with the share of right replies at each effort, then the
    shares of good calls and of well-formed replies, effort by effort.
    """
    efforts = list(dict.fromkeys(outcomes.effort))
    lines = [row(["domain", "questions", *(f"{effort} effort" for effort in efforts), "calls", "well-formed"])]
    lines.append("|---" * (len(efforts) + 4) + "|")
    for domain, group in outcomes.groupby("domain", sort=False):
        shares = [interval_of(group.right[group.effort == effort]) for effort in efforts]
        calls = _by_effort(group, "called", efforts) if group.called.notna().all() else ""
        well_formed = _by_effort(group, "well_formed", efforts)
        lines.append(row([domain, len(group) // len(efforts), *shares, calls, well_formed]))
    return "\n".join(lines)


def _by_effort(outcomes: pd.DataFrame, column: str, efforts: Sequence[Effort]) -> str:
    return ", ".join(f"{outcomes[column][outcomes.effort == effort].mean():.1%}" for effort in efforts)


def table_by_size(outcomes: pd.DataFrame) -> str:
    """A row for each size of the sums and the serial domains: the share of right replies at each effort."""
    sized = outcomes[outcomes.domain.isin(["addition", "subtraction", *SERIAL])]
    efforts = list(dict.fromkeys(outcomes.effort))
    lines = [row(["domain", "size", *(f"{effort} effort" for effort in efforts)]), "|---" * (len(efforts) + 2) + "|"]
    for (domain, size), group in sized.groupby(["domain", "size"]):
        lines.append(row([domain, size, *(interval_of(group.right[group.effort == effort]) for effort in efforts)]))
    return "\n".join(lines)


def interval_of(right: "pd.Series[bool]") -> str:
    """A share with its 95 % interval: "98.2% (96.6% to 99.1%)"."""
    low, high = wilson(int(right.sum()), len(right))
    return f"{right.mean():.1%} ({low:.1%} to {high:.1%})"


def _result(problem: Problem, talk: Sequence[Message]) -> Message | None:
    """What a tool says next: the next result of the problem, if the last message calls the tool that gives it."""
    made = sum(message.recipient not in (None, "assistant") for message in talk)
    last = talk[-1]
    if last.recipient is None or not last.complete or made > len(problem.calls):
        return None
    call = problem.calls[made - 1]
    return tool_result(last, call.result) if last.recipient == call.tool else None


def _messages(reply: Sequence[int], encoding: tiktoken.Encoding) -> list[Message]:
    parser = harmony.StreamParser(encoding)
    for token in reply:
        parser.push(token)
    return parser.messages


def _well_formed(said: Sequence[Message], effort: Effort) -> bool:
    channels = [message.channel for message in said]
    thinks = channels[0] == "analysis" and said[0].recipient is None
    return (
        all(message.role == "assistant" and message.complete and not message.malformed for message in said)
        and channels[-1] == "final"
        and channels.count("final") == 1
        and thinks == (effort != "low")
    )


def _well_called(made: Message, call: Call) -> bool:
    expected = call_message(call)
    in_form = (made.channel, made.content_type) == (expected.channel, expected.content_type)
    return in_form and made.recipient == call.tool and _arguments(made.content, call.tool) is not None


def _asks_the_same(made: Message, call: Call) -> bool:
    return made.recipient == call.tool and _arguments(made.content, call.tool) == _arguments(call.content, call.tool)


def _arguments(content: str, tool: str) -> Any:
    """What a call asks: code as it is, arguments out of their JSON; None where they are no JSON."""
    if tool == "python":
        return content.strip()
    try:
        return json.loads(content)
    except ValueError:
        return None


def row(cells: Iterable[object]) -> str:
    """A row of a table in Markdown."""
    return "| " + " | ".join(map(str, cells)) + " |"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m gptoss_lab.nano.evaluate", description="Examine a trained model.")
    parser.add_argument(
        "folder", type=Path, nargs="?", default=FOLDER, help="a checkpoint (default: the embedded model)"
    )
    parser.add_argument("--questions", type=int, default=500, help="of each domain (default: 500)")
    parser.add_argument("--domains", nargs="+", choices=list(DOMAINS), default=list(DOMAINS), metavar="DOMAIN")
    parser.add_argument("--efforts", nargs="+", choices=EFFORTS, default=list(EFFORTS), metavar="EFFORT")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    config, weights = checkpoint.load(options.folder)
    encoding = tokenizer.load(options.folder, config.d_vocab)
    model = Transformer(config, weights, engine="torch", device=options.device)
    outcomes = evaluate(model, encoding, options.questions, options.seed, options.efforts, options.domains)
    print(table(outcomes), table_by_size(outcomes), sep="\n\n")


if __name__ == "__main__":
    main()
