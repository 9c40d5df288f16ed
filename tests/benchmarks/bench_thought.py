"""The thought lab on the embedded model: pytest tests/benchmarks/bench_thought.py"""

import statistics
import time
from collections.abc import Iterable
from random import Random

import pytest

import gptoss_lab as lab
from gptoss_lab.experiments.resampling import resample
from gptoss_lab.harmony import StreamParser, render
from gptoss_lab.nano.data import draw
from gptoss_lab.tokenizer import control_ids

ROUNDS = 60


@pytest.fixture(scope="module")
def model() -> lab.Model:
    return lab.load()


def bench_streaming(benchmark, model: lab.Model) -> None:
    """A thought that is shown while it is written, over the same tokens generated and shown nowhere: decode speed from
    the first token on, in rounds in which each goes first in turn."""
    from gptoss_lab.views.live_thought import LiveThought

    question = draw(Random(0), "machine", "held-out").question
    prompt = render(model.conversation(question, "high"), model.tokenizer).tokens
    controls = control_ids(model.tokenizer)
    ends = [controls["<|return|>"], controls["<|call|>"]]
    view = LiveThought()

    def plain(seed: int) -> float:
        return seconds_each(model.generate(prompt, 2048, seed=seed, stop=ends, stream=True))

    def streamed(seed: int) -> float:
        return seconds_each(lab.ThoughtLab(model, question, seed=seed).stream())

    def shown(seed: int) -> float:
        view.start(StreamParser(model.tokenizer), len(prompt))
        seconds = seconds_each(lab.ThoughtLab(model, question, seed=seed).stream(), view.push)
        view.finish("")
        return seconds

    kinds, seconds = (plain, streamed, shown), {plain: [], streamed: [], shown: []}

    def one_round() -> None:
        seed = len(seconds[plain])
        for turn in range(len(kinds)):
            kind = kinds[(seed + turn) % len(kinds)]
            seconds[kind].append(kind(seed))

    benchmark.pedantic(one_round, rounds=ROUNDS, warmup_rounds=1)
    for kind in (streamed, shown):
        ratios = [fast / slow for fast, slow in zip(seconds[plain][1:], seconds[kind][1:], strict=True)]
        benchmark.extra_info[f"{kind.__name__}, of plain decode speed"] = round(statistics.median(ratios), 3)
    benchmark.extra_info["plain, tok/s"] = round(1 / statistics.median(seconds[plain]))


def bench_resampling(benchmark, model: lab.Model) -> None:
    """32 continuations of each of 12 sentences."""
    problems = Random(1)
    questions = (draw(problems, "machine", "held-out").question for _ in range(200))
    replies = (model.chat(question, "high", seed=0, display=False) for question in questions)
    reply = next(reply for reply in replies if reply.text and len(reply.thought.splitlines()) == 12)
    table = benchmark.pedantic(lambda: resample(model, reply, n=32, progress=False), rounds=1)
    benchmark.extra_info |= {"sentences": len(table), "continuations of each": int(table.n.min())}


def seconds_each(tokens: Iterable, show=lambda token: None) -> float:
    """Seconds a token takes, after the first."""
    stream = iter(tokens)
    show(next(stream))
    started, n = time.perf_counter(), 0
    for token in stream:
        show(token)
        n += 1
    return (time.perf_counter() - started) / n
