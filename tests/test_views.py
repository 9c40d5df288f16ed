"""Views without a browser: what is sent to it, what is escaped, and what follows what."""

import html.parser
import json
import re
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import traces
import traitlets
from talker import Broken, Talker

from gptoss_lab.analyses import routing as analysis
from gptoss_lab.harmony import Message, Span
from gptoss_lab.reply import Reply
from gptoss_lab.trace import Trace
from gptoss_lab.views import ask, front_end, reply_html, routing, tokens
from gptoss_lab.views.conversation import blocks
from gptoss_lab.views.kinds import LEGEND
from gptoss_lab.views.load_chart import LoadChart
from gptoss_lab.views.plain_text import as_token, quoted, visible
from gptoss_lab.views.quantities import quantities
from gptoss_lab.views.routing_map import RoutingMap
from gptoss_lab.views.stream import LiveReply
from gptoss_lab.views.throttle import SHORTEST_PAUSE

SCRIPT = "<script>alert(1)</script>"
ROLE = "\"><img src=x onerror='alert(2)'>"


def hostile() -> Trace:
    """A trace whose every name and token tries to be markup, or to hide."""
    texts = [
        "<|start|>",
        ROLE,
        "<|channel|>",
        SCRIPT,
        "<|message|>",
        SCRIPT,
        "a\u202eb",
        "\u200b",
        "\n",
        " ",
        "{{x}}%{y}",
    ]
    spans = [Span(0, "assistant", SCRIPT, ROLE, "header")] * 5 + [Span(0, "assistant", SCRIPT, ROLE, "content")] * 6
    return traces.routed(texts, spans, 1, n_layers=2, n_experts=4, k=2)


def test_text_hides_nothing() -> None:
    assert visible("plain text,\nand\ttabs") == "plain text,\nand\ttabs"
    assert visible("a\u202eb\u200bc\u00a0d\x1b[0m") == "a⟨U+202E⟩b⟨U+200B⟩c⟨U+00A0⟩d⟨U+001B⟩[0m"
    assert visible("é 中文 שלום") == "é 中文 שלום"
    assert visible("\u3164\ufe0f\U000e0041") == "⟨U+3164⟩⟨U+FE0F⟩⟨U+E0041⟩"
    assert visible("❤\ufe0f 👩\u200d🚀") == "❤\ufe0f 👩\u200d🚀"
    assert quoted(" a\n\tb\r") == "␣a↵⇥b␍"
    assert as_token(" a") == " a"
    assert as_token("  ") == "␣␣"
    assert as_token("") == ""
    assert as_token(" \n") == " ↵"


def test_modules_are_joined_into_one(repository: Path) -> None:
    for name in ("routing_map.js", "tokens_map.js", "stream.js", "fit.js"):
        joined = front_end.module(name)
        assert not re.search(r"^import ", joined, re.MULTILINE)
        assert re.findall(r"^export .*", joined, re.MULTILINE) == ["export default { render };"]
    for page in map(front_end.module, ("tokens_page.js", "routing_page.js")):
        assert not re.search(r"^(import|export) ", page, re.MULTILINE)
        names = re.findall(r"^(?:function|const|let|class) (\w+)", page, re.MULTILINE)
        assert len(names) == len(set(names)), "top-level names must differ"
    assert names.index("element") < names.index("tokenStrip") < names.index("drawRouting")


def test_a_page_refuses_what_would_end_its_script() -> None:
    with pytest.raises(ValueError, match="</script"):
        front_end.page("title", "'</SCRIPT>'", "", {})
    with pytest.raises(TypeError, match="JSON values and bytes; found set"):
        front_end.page("title", "", "", {"x": {1}})


@pytest.mark.parametrize(("n_layers", "n_experts"), [(24, 32), (36, 128)])
def test_four_thousand_tokens_take_less_than_five_megabytes(n_layers: int, n_experts: int) -> None:
    data = RoutingMap(traces.long(4000, n_layers, n_experts)).data
    buffers: list[int] = []
    text = json.dumps(data, default=lambda value: buffers.append(len(value)))
    print(f"{sum(buffers) + len(text):,} bytes")
    assert sum(buffers) + len(text) <= 5_000_000


def test_data_holds_the_trace() -> None:
    trace = traces.conversation()
    data = RoutingMap(trace).data
    shape = trace.expert_indices.shape
    np.testing.assert_array_equal(np.frombuffer(data["experts"], "u1").reshape(shape), trace.expert_indices)
    np.testing.assert_allclose(
        np.frombuffer(data["weights"], "<u2").reshape(shape) / 65535, trace.topk_weights, atol=1e-5
    )
    np.testing.assert_array_equal(np.frombuffer(data["ids"], "<i4"), trace.token_ids)
    np.testing.assert_array_equal(np.frombuffer(data["logprobs"], "<f4"), trace.logprobs)
    assert "".join(data["quoted"]).replace("␣", " ").replace("↵", "\n") == "".join(trace.texts)
    assert [block["title"] for block in data["blocks"]] == ["system", "user", "assistant, analysis", "assistant, final"]
    assert data["blocks"][2]["note"] == "raw thought, not meant for end users"
    assert data["blocks"][0]["start"] == 0
    assert [block["end"] for block in data["blocks"][:-1]] == [block["start"] for block in data["blocks"][1:]]


def test_more_than_256_experts_fit() -> None:
    trace = traces.conversation(n_experts=300)
    data = RoutingMap(trace).data
    np.testing.assert_array_equal(np.frombuffer(data["experts"], "<u2").ravel(), trace.expert_indices.ravel())


def test_tokens_know_their_role_and_channel() -> None:
    data = RoutingMap(traces.conversation()).data
    trace = traces.conversation()
    for facet, numbers in (("role", data["roles"]), ("channel", data["channels"])):
        names = [each["name"] for each in data["facets"][facet]]
        known = [names[number] for number in np.frombuffer(numbers, "<u2")]
        assert known == [getattr(span, facet) or "(none)" for span in trace.spans]


def test_colours_are_the_analyses() -> None:
    trace = traces.conversation()
    known = {each.name: each for each in quantities(trace)}
    np.testing.assert_array_equal(known["surprisal"].values, -trace.logprobs)
    np.testing.assert_allclose(known["entropy"].values[:-1], analysis.weight_entropy(trace))
    np.testing.assert_allclose(known["entropy"].values[-1], analysis.weight_entropy(trace).mean(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(known["margin"].values[-1], trace.margins().min(axis=0))
    sent = {each["name"]: each for each in RoutingMap(trace).data["quantities"]}
    np.testing.assert_array_equal(
        np.frombuffer(sent["margin"]["values"], "<f4"), known["margin"].values.astype("f4").ravel()
    )


def test_margins_where_every_expert_is_chosen_are_clear() -> None:
    (margin,) = (each for each in quantities(traces.conversation(n_experts=2, k=2)) if each.name == "margin")
    assert np.isinf(margin.values).all()
    assert margin.faint > margin.full


def test_alternatives_are_sent_with_their_logprobs() -> None:
    trace = traces.conversation()
    sent = RoutingMap(trace).data["alternatives"]
    numbers = np.frombuffer(sent["of"], "<i4").reshape(len(trace.texts), sent["width"])
    assert (numbers[: trace.n_prompt] == -1).all()
    last = [sent["texts"][number] for number in numbers[-1]]
    assert last == [quoted(text) for text in trace.alternative_texts[-1]]  # type: ignore[index]
    np.testing.assert_array_equal(
        np.frombuffer(sent["logprobs"], "<f4").reshape(numbers.shape), trace.alternative_logprobs
    )
    assert RoutingMap(replace(trace, alternatives=None)).data["alternatives"] is None


def test_view_and_parts_follow_one_another() -> None:
    view = routing(traces.conversation())
    view.map.pinned, view.map.cell, view.map.selection = 12, (1, 3), (12, 20)
    assert (view.pinned, view.cell, view.selection) == (12, (1, 3), (12, 20))
    view.pinned = 4
    controls = view.controls.by_name
    assert [controls[name].label for name in ("part", "role", "channel")] == ["Everything", "All", "All"]
    controls["channel"].label, controls["part"].label = "final", "Reply"
    assert (view.map.pinned, view.map.channel, view.channel, view.part) == (4, "final", "final", "reply")
    assert controls["layer"].disabled
    view.colour, view.layer = "entropy", 2
    assert (controls["colour"].label, controls["layer"].label) == ("routing entropy", "layer 2")
    assert not controls["layer"].disabled
    view.channel = None
    assert controls["channel"].label == "All"


def test_a_wrong_selection_says_what_there_is() -> None:
    view = routing(traces.conversation())
    last = len(traces.conversation().token_ids) - 1
    view.pinned = 3
    for part in (view, view.map):
        with pytest.raises(traitlets.TraitError, match=f"pinned=1000: this trace has tokens 0 to {last}"):
            part.pinned = 1000
    assert (view.pinned, view.map.pinned) == (3, 3)
    with pytest.raises(traitlets.TraitError, match="a layer below 4, an expert below 8"):
        view.map.cell = (4, 0)
    with pytest.raises(traitlets.TraitError, match="channel='thought': expected one of None,"):
        view.map.channel = "thought"
    with pytest.raises(traitlets.TraitError, match="layer=4: expected one of None, 0, 1, 2, 3"):
        view.layer = 4
    with pytest.raises(traitlets.TraitError, match="start before end, end at most"):
        view.selection = (5, 5)


def test_another_trace_can_be_shown_in_place() -> None:
    view = routing(traces.long(300, 2, 6, 2))
    view.pinned, view.cell, view.channel, view.selection, view.colour = 290, (1, 5), "final", (280, 300), "margin"
    view.show(traces.conversation())
    assert (view.pinned, view.cell, view.channel, view.selection, view.colour) == (None, None, None, None, "channel")
    assert "system" in [title for title, _ in view.controls.by_name["role"].options]
    assert view.map.data["nLayers"] == 4
    assert len(view.chart.figure.data[0].x) == 8


def test_tokens_of_a_reply_are_those_of_its_trace() -> None:
    trace = traces.conversation()
    view = tokens(replace(reply_of(), trace=trace))
    assert view.map.data["quoted"] == [quoted(text) for text in trace.texts]
    with pytest.raises(ValueError, match="this reply holds no trace"):
        tokens(reply_of())


def test_load_chart_draws_the_analysis() -> None:
    trace = traces.conversation()
    chart = LoadChart(trace)
    load = analysis.expert_load(trace, by="channel").set_index(["channel", "layer", "expert"])
    chart.layer.value, chart.measure.value = 2, "weight_share"
    for bars, channel in zip(chart.figure.data, ("analysis", "final"), strict=True):
        np.testing.assert_allclose(bars.y, load.loc[(channel, 2)]["weight_share"], atol=1e-5)
    assert chart.figure.layout.shapes[0].y0 == pytest.approx(1 / 8)
    chart.layer.value, chart.measure.value = "all", "share"
    np.testing.assert_allclose(sum(chart.figure.data[0].y), 2, atol=1e-3)
    assert chart.figure.layout.shapes[0].y0 == pytest.approx(2 / 8)
    exported = chart.exported()
    assert exported["heights"]["all|share"][0] == list(chart.figure.data[0].y)
    assert len(exported["heights"]) == 5 * 2


def test_a_prompt_without_a_reply_can_be_shown() -> None:
    view = routing(traces.conversation(traces.ADDITION[:2]))
    assert len(view.chart.figure.data) == 0
    assert [value for _, value in view.map.roles] == [None, "system", "user"]
    assert view.map.parts == [("Everything", None)]


def test_an_exported_page_holds_hostile_text_as_data_alone(tmp_path: Path) -> None:
    path = routing(hostile()).to_html(tmp_path / "view.html")
    page = path.read_text(encoding="utf-8")
    assert SCRIPT not in page
    assert ROLE not in page
    scripts = re.findall(r"<script[^>]*>", page)
    assert len(scripts) == 3  # state, library and the page's own
    assert "default-src 'none'" in page
    state = json.loads(re.search(r'id="state">(.*?)</script>', page, re.DOTALL).group(1))  # type: ignore[union-attr]
    assert state["data"]["quoted"][5] == SCRIPT
    assert state["data"]["quoted"][6:9] == ["a⟨U+202E⟩b", "⟨U+200B⟩", "↵"]
    assert state["data"]["blocks"][0]["kind"] == "other"
    assert "<" not in json.dumps(state["load"]["figure"]).replace("<extra></extra>", "")


def test_kinds_are_never_names_from_the_model() -> None:
    messages = [Message(ROLE, "x", channel=SCRIPT), Message("assistant", "x", channel=ROLE), Message("user", "x")]
    assert [block["kind"] for block in blocks(messages)] == ["tool", "other", "user"]
    assert {block["kind"] for block in blocks(messages)} <= set(LEGEND)


def reply_of(*messages: Message, finish: str = "stop") -> Reply:
    return Reply(list(messages), [], [1, 2, 3], [], [], [], [], finish=finish, seconds=1.25)


class _Seen(html.parser.HTMLParser):
    """Tags and text of a fragment, its style left out."""

    def __init__(self, fragment: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: dict[str, list[str | None]] = {}
        self.text = ""
        self.feed(fragment)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attributes:
            self.attributes.setdefault(name, []).append(value)

    def handle_data(self, data: str) -> None:
        if self.tags[-1] != "style":
            self.text += data


def test_a_reply_shows_text_as_text() -> None:
    seen = _Seen(
        reply_html(
            reply_of(
                Message("assistant", f"{SCRIPT} a\u202eb", channel="analysis", recipient=ROLE),
                Message("assistant", f"{SCRIPT}</pre></div>", channel=SCRIPT),
                Message("assistant", "95", channel="final", malformed=ROLE),
            )
        )
    )
    assert set(seen.tags) <= {"style", "div", "details", "summary", "b", "span", "pre"}
    assert set(seen.attributes) <= {"class", "data-kind", "dir", "open"}
    assert seen.attributes["data-kind"] == ["analysis", "other", "final"]
    assert f"{SCRIPT} a⟨U+202E⟩b" in seen.text
    assert f"analysis, to {quoted(ROLE)} raw thought, not meant for end users" in seen.text
    assert f"malformed header: {quoted(ROLE)}" in seen.text
    assert "3 tokens in 1.2 s." in seen.text


def test_long_thoughts_are_folded_and_short_ones_are_not() -> None:
    short, long = Message("assistant", "so", channel="analysis"), Message("assistant", "so " * 400, channel="analysis")
    assert "open" in _Seen(reply_html(reply_of(short))).attributes
    assert "open" not in _Seen(reply_html(reply_of(long))).attributes
    assert "max_new_tokens" in _Seen(reply_html(reply_of(short, finish="length"))).text


def test_a_reply_is_sent_twenty_times_a_second_at_most_and_its_end_always() -> None:
    live = LiveReply()
    sent: list[Any] = []
    live.observe(lambda change: sent.append(change["new"]), "blocks")
    live.start()
    began = time.monotonic()
    for number in range(1000):
        live.update([Message("assistant", "x" * (number + 1), channel="final")])
        time.sleep(0.0002)
    assert 2 <= len(sent) <= (time.monotonic() - began) / SHORTEST_PAUSE + 1
    time.sleep(2 * SHORTEST_PAUSE)
    assert live.blocks[0]["text"] == "x" * 1000, "a stream that stalls shows what has come"
    live.finish("length")
    assert live.blocks[0]["text"] == "x" * 1000
    assert not live.running
    assert "max_new_tokens" in live.status


def test_long_replies_are_sent_less_often() -> None:
    live = LiveReply()
    sent: list[Any] = []
    live.observe(lambda change: sent.append(change["new"]), "blocks")
    live.start()
    end = time.monotonic() + 0.4
    while time.monotonic() < end:
        live.update([Message("assistant", f"{time.monotonic()}" + "x" * 400_000, channel="analysis")])
    assert len(sent) == 1


def test_asking_shows_the_reply_and_its_routing() -> None:
    model = Talker()
    box = ask(model)  # type: ignore[arg-type]
    assert box.routing is None
    box.question.value, box.effort.value = "  What is 38 + 57? ", "low"
    box.ask_button.click()
    box.wait(10)
    question, options = model.asked[0]
    assert (question, options["effort"], options["record"]) == ("What is 38 + 57?", "low", ("routing",))
    assert [block["title"] for block in box.stream.blocks] == ["analysis", "final"]
    assert box.reply is not None
    assert box.reply.text == "38 + 57 = 95"
    assert box.routing in box.children
    assert (box.ask_button.disabled, box.stop_button.disabled) == (False, True)
    first = box.routing
    box._on_enter(None, {"event": "submit"}, None)
    box.wait(10)
    assert len(model.asked) == 2
    assert box.routing is first


def test_stop_ends_a_reply_and_leaves_the_box_usable() -> None:
    model = Talker(pause=0.05)
    box = ask(model)  # type: ignore[arg-type]
    box.ask()
    box.ask()
    assert box.ask_button.disabled
    time.sleep(0.15)
    box.stop_button.click()
    box.wait(1)
    assert box.stream.status == "Stopped."
    assert not box.ask_button.disabled
    assert len(model.asked) == 1
    assert threading.active_count() < 50


def test_a_failure_is_told_in_the_box() -> None:
    box = ask(Broken())  # type: ignore[arg-type]
    box.question.value = SCRIPT
    box.ask()
    box.wait(10)
    assert box.stream.status.startswith("This did not work. ValueError: cannot answer")
    assert not box.stream.running
    assert not box.ask_button.disabled
