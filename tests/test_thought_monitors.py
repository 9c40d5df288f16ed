"""Monitors read along, say where something is amiss, and pause the thought, which can go on."""

import re

import numpy as np
import pytest

import gptoss_lab as lab
from gptoss_lab import planted
from gptoss_lab.analyses.probing import Probe
from gptoss_lab.session import Model
from gptoss_lab.thought.monitors import Seen, pattern, probe_above, verdict

DIGITS = planted.build("answer").truth.digits


@pytest.fixture(scope="module")
def answering() -> Model:
    return lab.load("planted:answer", engine="torch")


@pytest.fixture(scope="module")
def whole(answering: Model) -> lab.ThoughtLab:
    thoughts = lab.ThoughtLab(answering, "Which?", seed=5)
    thoughts.run()
    return thoughts


def new(model: Model) -> lab.ThoughtLab:
    return lab.ThoughtLab(model, "Which?", seed=5)


def test_a_pattern_pauses_the_thought_where_it_is_found(answering: Model, whole: lab.ThoughtLab) -> None:
    thoughts = new(answering)
    branch = thoughts.run(monitors=[pattern(r"keep \d", "analysis"), pattern("never")])
    assert branch.finish == "interrupted"
    assert branch.thought.splitlines()[-1] == f"Keep {whole[0].text}"
    (alarm,) = thoughts.alarms
    assert (alarm.branch, alarm.position) == (0, len(branch) - 1)
    assert alarm.monitor == r"pattern 'keep \\d'"
    assert alarm.words == rf"'Keep {whole[0].text}' matches 'keep \\d'"
    done = thoughts.resume(monitors=[pattern(r"keep \d", "analysis")])  # the same place does not ring twice
    assert done.ids == whole[0].ids
    assert len(thoughts.alarms) == 1
    assert new(answering).run(monitors=[pattern("assistant|final")]).ids == whole[0].ids  # headers are no content


def test_a_monitor_of_ones_own_sees_each_token_in_its_message(answering: Model, whole: lab.ThoughtLab) -> None:
    seen: list[Seen] = []

    def watch(at: Seen) -> str | None:
        seen.append(at)
        return "the answer" if at.message.channel == "final" and at.span.section == "content" else None

    thoughts = new(answering)
    branch = thoughts.run(monitors=[watch])
    assert branch.text == whole[0].text
    assert [at.token.id for at in seen] == branch.ids[branch.n_prompt :]
    assert [at.position for at in seen] == list(range(branch.n_prompt, len(branch)))
    assert thoughts.alarms[0].monitor == "watch"
    assert all(at.states == {} for at in seen)
    assert thoughts.resume().ids == whole[0].ids


def test_a_probe_reads_the_token_before(answering: Model, whole: lab.ThoughtLab) -> None:
    point = "blocks.0.hook_resid_pre"
    trace = answering.trace(whole[0].reply, record=("residual",))
    assert trace.residual is not None
    residual = trace.residual[trace.residual_points.index(point)]
    first = next(n for n in range(trace.n_prompt, len(residual)) if trace.token_ids[n] in DIGITS)
    digit = residual[first] - residual[first - 1]
    bias = -float((residual[first] + residual[first - 1]) @ digit) / 2
    probe = Probe(digit.astype(np.float64), bias, point, 1, 1, 1, 0.5, 0.5, 2)
    thoughts = new(answering)
    branch = thoughts.run(monitors=[probe_above(probe, 0.9, "digit")])
    assert thoughts.alarms[0].monitor == "digit"
    assert thoughts.alarms[0].position == first + 1
    assert branch.ids == whole[0].ids[: first + 2]
    with pytest.raises(ValueError, match="fit it with point="):
        probe_above(Probe(digit, 0, "", 1, 1, 1, 1, 1, 1))


def test_another_model_may_judge_each_sentence(answering: Model, whole: lab.ThoughtLab) -> None:
    asked: list[str] = []

    class Judge:
        def chat(self, question: str, *arguments: object, **options: object) -> object:
            asked.append(question)
            return type("Reply", (), {"text": "Yes, it does." if "Keep" in question else "No."})()

    thoughts = new(answering)
    branch = thoughts.run(monitors=[verdict(Judge(), "Does it keep anything?")])  # type: ignore[arg-type]
    assert len(asked) == 3
    assert re.fullmatch(r"Does it keep anything\?\n\nSee \d apples\.\n", asked[0])
    assert branch.thought.splitlines()[-1] == f"Keep {whole[0].text} safe."
    assert "the model says 'Yes, it does.'" in thoughts.alarms[0].words
