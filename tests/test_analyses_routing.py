"""Routing analyses against counts made by hand, token by token."""

from dataclasses import replace

import numpy as np
import pytest
import traces

from gptoss_lab.analyses import routing


@pytest.fixture(scope="module")
def trace():
    return traces.conversation()


def test_sums_are_those_of_a_plain_count(trace) -> None:
    where = routing.content(trace)
    weight, tokens = routing.expert_sums(trace, where)
    expected_weight = np.zeros((trace.n_layers, trace.n_experts))
    expected_tokens = np.zeros((trace.n_layers, trace.n_experts), dtype=int)
    for row in trace.routing().itertuples():
        if row.section == "content":
            expected_weight[row.layer, row.expert] += row.weight
            expected_tokens[row.layer, row.expert] += 1
    np.testing.assert_allclose(weight, expected_weight, rtol=1e-6)
    np.testing.assert_array_equal(tokens, expected_tokens)
    np.testing.assert_allclose(weight.sum(axis=1), where.sum(), rtol=1e-5)


def test_load_finds_the_planted_digit_expert(trace) -> None:
    load = routing.expert_load(trace, by="channel").set_index(["channel", "layer", "expert"])
    in_reply = [
        (span.channel, text)
        for text, span in list(zip(trace.texts, trace.spans, strict=True))[trace.n_prompt :]
        if span.section == "content"
    ]
    for channel in ("analysis", "final"):
        of_channel = [text for name, text in in_reply if name == channel]
        digits = sum(any(letter.isdigit() for letter in text) for text in of_channel)
        assert load.loc[(channel, 0, 0), "tokens"] == digits
        assert load.loc[(channel, 0, 0), "share"] == pytest.approx(digits / len(of_channel))


def test_load_has_a_row_for_every_expert_and_its_shares_add_up(trace) -> None:
    load = routing.expert_load(trace, by="speaker", where=np.ones(len(trace.token_ids), dtype=bool))
    assert list(load["speaker"].unique()) == ["system", "user", "analysis", "final"]
    sizes = load.groupby(["speaker", "layer"])[["expert", "share", "weight_share"]].agg(
        {"expert": "size", "share": "sum", "weight_share": "sum"}
    )
    assert (sizes["expert"] == trace.n_experts).all()
    np.testing.assert_allclose(sizes["share"], 2, rtol=1e-6)
    np.testing.assert_allclose(sizes["weight_share"], 1, rtol=1e-5)


def test_a_replys_header_goes_with_the_channel_that_it_opens() -> None:
    trace = traces.conversation()
    spans = [
        replace(span, channel=None) if span.section == "header" and text in ("<|start|>", "assistant") else span
        for text, span in zip(trace.texts, trace.spans, strict=True)
    ]
    object.__setattr__(trace, "spans", spans)
    assert "assistant" not in routing.labels(trace, "speaker")
    assert routing.labels(trace, "channel")[trace.n_prompt - 1] == routing.UNNAMED


def test_a_tools_result_speaks_as_the_tool_though_it_stands_on_a_channel() -> None:
    turns = [
        *traces.ADDITION[:2],
        ("assistant", "analysis", "python", "38 + 57"),
        ("python", "analysis", "assistant", "95"),
    ]
    assert list(dict.fromkeys(routing.labels(traces.conversation(turns), "speaker")))[2:] == ["analysis", "python"]


def test_no_tokens_no_rows(trace) -> None:
    load = routing.expert_load(trace, where=np.zeros(len(trace.token_ids), dtype=bool))
    assert len(load) == 0
    assert "share" in load


def test_wrong_arguments_say_what_is_expected(trace) -> None:
    with pytest.raises(ValueError, match=r"by='colour': expected one of"):
        routing.expert_load(trace, by="colour")
    with pytest.raises(ValueError, match="booleans, one a token; found int64"):
        routing.expert_sums(trace, np.arange(len(trace.token_ids)))
