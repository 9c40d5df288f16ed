"""Traces: what they hold, that recording while generating equals one pass, and that files bring back what was saved."""

import json
import warnings
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small import BYTES, SMALL
from traces import conversation

import gptoss_lab as lab
from gptoss_lab import recording
from gptoss_lab import weights as weights_module
from gptoss_lab.model import Transformer
from gptoss_lab.recording import Record, record_of
from gptoss_lab.session import Model

ALL = recording.KINDS


@pytest.fixture(scope="module")
def model() -> Model:
    config = replace(SMALL, d_vocab=264, n_layers=2)
    return Model(Transformer(config, weights_module.random(config, seed=2)), BYTES, "small", {"checkpoint": "random 2"})


def test_what_was_recorded_while_generating_equals_one_pass(model: Model) -> None:
    reply = model.chat("Hello", max_new_tokens=20, seed=1, record=ALL)
    recorded = reply.trace
    assert recorded is not None
    traced = model.trace([*reply.prompt_tokens, *reply.tokens], record=ALL)
    for name in ("router_logits", "patterns", "sinks", "residual", "expert_out", "z"):
        ours, theirs = getattr(recorded, name), getattr(traced, name)
        assert ours.shape == theirs.shape, name
        np.testing.assert_allclose(ours, theirs, atol=1e-3, err_msg=name)
    assert recorded.attention_layers == (0, 1)
    assert recorded.attention_heads == (0, 1, 2, 3)
    assert recorded.residual_points == (
        "blocks.0.hook_resid_pre",
        "blocks.0.hook_resid_mid",
        "blocks.0.hook_resid_post",
        "blocks.1.hook_resid_mid",
        "blocks.1.hook_resid_post",
    )
    np.testing.assert_allclose(recorded.patterns.sum(axis=-1) + recorded.sinks, 1, atol=1e-5)
    mlp_out = recorded.residual[4] - recorded.residual[3]
    np.testing.assert_allclose(recorded.expert_out[1].sum(axis=1), mlp_out, atol=1e-4)


def test_chosen_layers_and_heads_are_those_of_the_whole(model: Model) -> None:
    tokens = list(range(40))
    whole = model.trace(tokens, record=ALL)
    part = model.trace(tokens, record=Record(attention=[1], heads=[3, 0], residual=[1], experts=[0]))
    close = {"atol": 1e-5}  # layer 0 takes the fast road where nobody watches its heads
    np.testing.assert_allclose(part.patterns, whole.patterns[1:, [0, 3]], **close)
    np.testing.assert_allclose(part.sinks, whole.sinks[1:, [0, 3]], **close)
    assert part.attention_heads == (0, 3)
    np.testing.assert_allclose(part.residual, whole.residual[2:], **close)
    np.testing.assert_allclose(part.expert_out, whole.expert_out[:1], **close)
    np.testing.assert_allclose(model.trace(tokens, record=Record(z=[1])).z, whole.z[1:], **close)
    assert whole.provenance["checkpoint"] == "random 2"


def test_logprobs_and_alternatives_are_those_of_the_logits(model: Model) -> None:
    tokens = list(range(30))
    trace = model.trace(tokens)
    expected = model(tokens)[0].log_softmax(dim=-1)
    assert np.isnan(trace.logprobs[0])
    np.testing.assert_allclose(
        trace.logprobs[1:], expected[:-1].gather(-1, torch.arange(1, 30)[:, None])[:, 0], atol=1e-4
    )
    top = expected[:-1].topk(5, dim=-1)
    assert np.array_equal(trace.alternatives[1:], top.indices)
    np.testing.assert_allclose(trace.alternative_logprobs[1:], top.values, atol=1e-4)
    assert trace.alternative_texts[1] == [BYTES.decode([int(token)]) for token in trace.alternatives[1]]
    assert (trace.alternatives[0] == -1).all()


def test_the_attention_table_says_where_each_head_looks_and_the_sink(model: Model) -> None:
    trace = model.trace("<|start|>user<|message|>Hi<|end|>", record=("attention",))
    table = trace.attention(at_least=0)
    assert len(table) == 2 * 4 * 9 * (9 + 1)
    sums = table.groupby(["layer", "head", "position"]).weight.sum()
    np.testing.assert_allclose(sums, 1, atol=1e-5)
    sink = table[(table.to == -1) & (table.layer == 1) & (table["head"] == 2) & (table.position == 3)].iloc[0]
    assert sink.weight == pytest.approx(trace.sinks[1, 2, 3])
    assert sink.to_text == "(sink)"
    assert (trace.attention(at_least=0.2).weight >= 0.2).all()
    with pytest.raises(ValueError, match="no patterns"):
        conversation().attention()


def test_a_trace_comes_back_from_its_file_without_the_model(model: Model, tmp_path: Path) -> None:
    trace = model.chat("Hi é \x00 </script>", max_new_tokens=9, seed=1, record=ALL).trace
    assert trace is not None
    path = trace.save(tmp_path / "hi.trace.safetensors")
    back = lab.load_trace(path)
    for each in fields(trace):
        ours, theirs = getattr(trace, each.name), getattr(back, each.name)
        if isinstance(ours, np.ndarray):
            np.testing.assert_array_equal(ours, theirs, err_msg=each.name)
        elif each.name != "alternative_texts":
            assert ours == theirs, each.name
    assert [list(texts) for texts in back.alternative_texts or []] == trace.alternative_texts
    assert json.loads(back.provenance["sampling"]) == {
        "temperature": 1.0, "top_p": 1.0, "seed": 1, "effort": "medium"
    }  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["hi.trace.safetensors"]


def test_a_file_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    with pytest.raises(FileNotFoundError, match="does not exist"):
        lab.load_trace(tmp_path / "none")
    for name, content in {"empty": b"", "text": b"hello there, this is no trace"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} is not a trace"):
            lab.load_trace(tmp_path / name)
    save_file({"a": np.zeros(3)}, tmp_path / "other")
    with pytest.raises(ValueError, match="its format is None"):
        lab.load_trace(tmp_path / "other")
    save_file({"a": np.zeros(3)}, tmp_path / "odd", metadata={"format": "gptoss_lab.trace/1", "trace": "{}"})
    with pytest.raises(ValueError, match="odd is not a trace"):
        lab.load_trace(tmp_path / "odd")


def test_the_cost_is_what_the_arrays_take_and_is_said_beforehand(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    record = record_of(ALL, model.config)
    trace = model.trace(list(range(25)), record=ALL)
    arrays = [trace.router_logits, trace.expert_indices, trace.topk_weights, trace.patterns]
    arrays += [trace.sinks, trace.residual, trace.expert_out, trace.z]
    arrays += [trace.lens_tokens, trace.lens_logprobs, trace.lens_entropy, trace.lens_rank, trace.lens_logprob]
    arrays += [trace.lens_kl, trace.residual]  # the lens holds the streams of a pass
    assert recording.cost(record, model.config, 25) == sum(array.nbytes for array in arrays)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.trace(list(range(25)), record=ALL)
    monkeypatch.setattr(recording, "WORTH_SAYING", 1000)
    with pytest.warns(UserWarning, match="may take 0.0 GB of memory, at 25 tokens"):
        model.trace(list(range(25)), record=ALL)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (("smell",), "got 'smell'"),
        (Record(attention=[2]), "no layer 2; layers run from 0 to 1"),
        (Record(heads=[4]), "no head 4; heads run from 0 to 3"),
        (Record(residual=[-1]), "no layer -1"),
    ],
)
def test_what_cannot_be_recorded_is_refused(model: Model, record: Record | tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.trace([1, 2], record=record)
