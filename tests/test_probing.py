"""Probes: they find what is there, on what they have not seen, and say so where nothing is."""

import numpy as np
import pytest

import gptoss_lab as lab
from gptoss_lab import planted
from gptoss_lab.analyses.probing import fit_probe, labelled

RNG = np.random.default_rng(0)


def blobs(n: int, d: int, apart: float) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(n) % 3 == 0
    states = RNG.normal(size=(n, d)) * 5 + 100
    states[:, 0] += apart * labels
    return states, labels


def test_what_is_there_is_found_and_the_control_finds_nothing() -> None:
    states, labels = blobs(300, 20, apart=40)
    probe = fit_probe(states, labels, point="blocks.0.hook_resid_post")
    assert probe.accuracy > 0.97
    assert probe.low <= probe.accuracy <= probe.high
    assert probe.shuffled == pytest.approx(0.5, abs=0.05)
    assert probe.shuffled_high < 0.65
    new, truth = blobs(300, 20, apart=40)
    assert ((probe(new) > 0.5) == truth).mean() > 0.97
    assert abs(probe.weights[0]) > 5 * abs(probe.weights[1:]).max()
    assert "held-out tokens, against" in str(probe)
    again = fit_probe(states, labels)
    assert (again.accuracy, again.shuffled) == (probe.accuracy, probe.shuffled)


def test_what_is_not_there_is_not_found_however_many_dimensions() -> None:
    states, labels = blobs(60, 400, apart=0)
    probe = fit_probe(states, labels)
    assert ((probe(states) > 0.5) == labels).all()  # by heart
    assert probe.low < 0.5 < probe.high
    assert "no better than" in str(probe)


def test_tokens_of_one_text_are_never_on_both_sides() -> None:
    groups = np.repeat(np.arange(12), 10)
    labels = groups % 2 == 0
    states = RNG.normal(size=(12, 30))[groups] * 10 + RNG.normal(size=(120, 30)) / 100  # each text has its own mark
    assert fit_probe(states, labels).accuracy > 0.99  # which tells the text, and so the label
    assert fit_probe(states, labels, groups).accuracy < 0.9


def test_a_planted_models_digits_can_be_read_off() -> None:
    model = lab.load("planted:answer", engine="torch")
    digits = planted.build("answer").truth.digits
    states, labels, groups = [], [], []
    for seed in range(6):
        trace = model.trace(model.chat("Which?", temperature=1.0, seed=seed), record=("residual",))
        spans = [(n, n + 1, int(trace.token_ids[n]) in digits) for n in range(trace.n_prompt, len(trace.token_ids))]
        some, marks = labelled(trace, "blocks.0.hook_resid_pre", spans)
        states.append(some)
        labels.append(marks)
        groups += [seed] * len(marks)
    probe = fit_probe(np.concatenate(states), np.concatenate(labels), groups, point="blocks.0.hook_resid_pre")
    assert probe.accuracy > 0.99
    assert probe.shuffled_high < 0.75
    with pytest.raises(ValueError, match="was not recorded"):
        labelled(trace, "blocks.0.hook_mlp_out", spans)
    with pytest.raises(ValueError, match="within the trace's"):
        labelled(trace, "blocks.0.hook_resid_pre", [(3, 3, True)])


def test_nonsense_is_refused() -> None:
    states, labels = blobs(12, 3, apart=1)
    with pytest.raises(ValueError, match="a label and a group each; got"):
        fit_probe(states, labels[:5])
    with pytest.raises(ValueError, match="all of the 12 labels are True"):
        fit_probe(states, labels | True)
    with pytest.raises(ValueError, match="nothing to hold out"):
        fit_probe(states, labels, ["one"] * 12)
