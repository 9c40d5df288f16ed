"""The thought view's Python half: what a browser gets of branches, and that what is clicked is what Python has."""

import json
import re
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import traitlets

import gptoss_lab as lab
from gptoss_lab.harmony import StreamParser
from gptoss_lab.thought import monitors
from gptoss_lab.views import front_end
from gptoss_lab.views.difference_data import difference_data, routed_alike
from gptoss_lab.views.difference_view import DifferenceView
from gptoss_lab.views.live_thought import LiveThought
from gptoss_lab.views.plain_text import quoted, visible
from gptoss_lab.views.thought_data import PER_POSITION, branch_data, no_branch, node, page_branches, tree_data
from gptoss_lab.views.thought_view import ThoughtView
from gptoss_lab.views.throttle import SHORTEST_PAUSE, Throttle

HOSTILE = "Keep </script><script>alert(1)</script> 7 \x07 safe."


@pytest.fixture(scope="module")
def thoughts() -> lab.ThoughtLab:
    """0; from it 1 (late), 2 (early), 3 (another prompt); from 2, 4."""
    thoughts = lab.ThoughtLab(lab.load("planted:answer", engine="torch"), "Which?", seed=5)
    first = thoughts.run()
    position = first.steps[3].start + 1
    thoughts.branch(position, first.tokens[position].alternatives[1].id)
    thoughts.edit(2, HOSTILE, of=0)
    thoughts.change(effort="low", of=0)
    thoughts.delete(3, of=2)
    return thoughts


def array(value: bytes, dtype: str) -> np.ndarray:
    return np.frombuffer(value, dtype)


def test_rows_of_the_tree_come_parents_first_and_late_branches_nearest(thoughts: lab.ThoughtLab) -> None:
    rows = tree_data(map(node, thoughts.branches))
    assert [row["number"] for row in rows] == [0, 1, 2, 4, 3]
    assert [row["level"] for row in rows] == [1, 2, 2, 3, 2]
    assert [row["parent"] for row in rows] == [None, 0, 0, 2, 0]
    by_number = {row["number"]: row for row in rows}
    first = thoughts[0]
    assert by_number[1]["fork"] == first.steps[3].start + 1 - first.n_prompt
    assert by_number[1]["put"] == [[by_number[1]["fork"], by_number[1]["fork"] + 1]]
    assert by_number[3]["fork"] == 0
    for number, row in by_number.items():
        branch = thoughts[number]
        assert row["length"] == len(branch) - branch.n_prompt
        stretches = row["stretches"]
        assert stretches[0][0] == row["fork"] and stretches[-1][1] == row["length"]
        assert all(one[1] == other[0] for one, other in pairwise(stretches))
        assert {kind for *_, kind in stretches} <= {"analysis", "final", "other"}
        assert row["answer"] == branch.text
    assert by_number[0]["sameAnswer"] is None
    assert by_number[1]["sameAnswer"] is (thoughts[1].text == first.text)


def test_a_tree_that_is_deep_is_drawn_too() -> None:
    chain = [{"number": n, "parent": n - 1 if n else None, "fork": n, "answer": "", "length": n} for n in range(3000)]
    assert [row["level"] for row in tree_data(chain)] == list(range(1, 3001))


def test_a_branch_tells_of_every_token_what_is_known(thoughts: lab.ThoughtLab) -> None:
    branch = thoughts[2]
    data = branch_data(branch)
    np.testing.assert_array_equal(array(data["ids"], "<i4"), branch.ids)
    np.testing.assert_array_equal(array(data["given"], "u1"), [token.source == "given" for token in branch.tokens])
    for name, ours in (("logprob", "logprobs"), ("entropy", "entropies")):
        np.testing.assert_allclose(array(data[ours], "<f4"), [getattr(t, name) for t in branch.tokens], rtol=1e-6)
    alternatives = data["alternatives"]
    of = array(alternatives["of"], "<i4").reshape(-1, alternatives["width"])
    for position, token in enumerate(branch.tokens):
        texts = [alternatives["texts"][number] for number in of[position] if number >= 0]
        assert texts == [quoted(other.text) for other in token.alternatives]
    assert data["marks"] == [[branch.shared, "leaves branch 0 ▸"]]
    assert [(step["start"], step["stop"]) for step in data["steps"]] == [(s.start, s.stop) for s in branch.steps]
    ends = {step.stop - 1 for step in branch.steps}
    assert ends <= set(array(data["breaks"], "<i4").tolist())
    assert "⟨U+0007⟩" in data["steps"][1]["text"]
    json.dumps(data["steps"], allow_nan=False)


def test_a_malformed_header_is_called_so(thoughts: lab.ThoughtLab) -> None:
    fresh = lab.ThoughtLab(thoughts.model, "Which?", seed=5)
    fresh.run()
    ended = fresh.edit(2, "Keep<|end|> 9<|end|>", go_on=False)
    assert [block["note"] for block in branch_data(ended)["blocks"]][2:] == [
        "raw thought, not meant for end users",
        "malformed header",
    ]


def test_a_page_holds_what_branches_share_once(thoughts: lab.ThoughtLab) -> None:
    store = page_branches(thoughts.branches)
    for branch in thoughts.branches:
        kept, whole = store["branches"][str(branch.number)], branch_data(branch)
        for name in PER_POSITION:
            width = len(whole[name]) // len(branch)
            assert kept[name] == whole[name][branch.shared * width :], name
    assert sum(len(kept["shown"]) for kept in store["branches"].values()) == sum(
        len(branch) - branch.shared for branch in thoughts.branches
    )


def test_what_is_chosen_is_on_show_and_wrong_choices_are_refused(thoughts: lab.ThoughtLab) -> None:
    view = ThoughtView(thoughts)
    assert (view.branch, view.part) == (0, "reply")
    view.pinned = thoughts[0].n_prompt + 3
    view.map.branch = 2  # as a click does
    assert (view.branch, view.pinned) == (2, None)
    assert view.map.data["marks"][0][0] == thoughts[2].shared
    view.colour = "entropy"
    view.branch = 1
    assert view.map.data["marks"][0][0] == thoughts[1].shared
    assert view.map.colour == view.by_name["colour"].value == "entropy"
    with pytest.raises(traitlets.TraitError, match="branch=9: expected one of 0, 1, 2, 3, 4"):
        view.map.branch = 9


def test_before_there_is_a_thought(thoughts: lab.ThoughtLab, tmp_path: Path) -> None:
    empty = ThoughtView(lab.ThoughtLab(thoughts.model, "Which?"))
    assert (empty.branch, empty.map.data) == (None, no_branch())
    assert "0 branches" in empty.heading.value
    empty.colour = "entropy"
    empty.to_html(tmp_path / "empty.html")


def test_an_exported_page_is_one_file_without_foreign_markup(thoughts: lab.ThoughtLab, tmp_path: Path) -> None:
    text = ThoughtView(thoughts).to_html(tmp_path / "thought.html").read_text(encoding="utf-8")
    assert "alert(1)" in text and "<script>alert" not in text
    assert not re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=", text)
    assert "http" not in text.replace("http-equiv", "")


def test_joined_modules_share_one_scope_without_a_clash() -> None:
    declared: dict[str, Any] = {}
    for script in ("thought_map", "thought_page", "live_thought", "difference_text", "difference_page", "chart_page"):
        whole = front_end.module(f"{script}.js")
        names = re.findall(r"^(?:async )?(?:function|const|let|class) (\w+)", whole, re.MULTILINE)
        declared[script] = sorted({name for name in names if names.count(name) > 1})
    assert not any(declared.values()), declared


def test_two_branches_side_by_side(thoughts: lab.ThoughtLab, tmp_path: Path) -> None:
    found = thoughts.compare(0, 2)
    data = difference_data(found)
    for branch, side in zip((found.a, found.b), data["sides"], strict=True):
        said = ["".join(text for text, *_ in message["parts"]) for message in side]
        assert said == [visible(message.content) for message in branch.messages]
        assert sum(parts for message in side for *_, parts in message["parts"]) == 1
        assert [message["kind"] for message in side] == ["analysis", "final"]
    first = found.a.steps
    assert data["sides"][0][0]["parts"][0] == [first[0].text, False, False]
    assert [answer for answer, *_ in data["answers"]] == [found.a.text, found.b.text]
    view = DifferenceView(found)
    assert view.routing is not None and view.routing.part == "reply"
    pairs = routed_alike(found)
    assert all(found.a.ids[one] == found.b.ids[other] for one, other in pairs)
    assert "<script>alert" not in view.to_html(tmp_path / "difference.html").read_text(encoding="utf-8")


def test_branches_can_be_compared_without_a_model(thoughts: lab.ThoughtLab, tmp_path: Path) -> None:
    alone = lab.load_thoughts(thoughts.save(tmp_path / "thoughts.json"))
    view = DifferenceView(alone.compare(0, 1))
    assert (view.routing, view.text.data["answers"]) == (None, None)
    view.to_html(tmp_path / "difference.html")
    reading = lab.ThoughtDesk(alone)
    assert reading.map.live is False
    assert all(reading.buttons[name].disabled for name in ("think", "replace", "anew", "effort"))


# A thought while it is written


class Sent(LiveThought):
    """Keeps what goes to a browser."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        super().__init__()

    def send(self, content: Any, buffers: Any = None) -> None:
        self.sent.append(content)


def test_each_token_is_sent_once_with_what_was_expected(thoughts: lab.ThoughtLab) -> None:
    branch, live = thoughts[2], Sent()
    reply = branch.tokens[branch.n_prompt :]
    live.start(StreamParser(thoughts.model.tokenizer), branch.n_prompt, reply[:7])
    for token in reply[7:]:
        live.push(token)
    live._throttle.flush()
    entries = [entry for sent in live.sent for entry in sent["tokens"]]
    assert [entry[4] for entry in entries] == [token.id for token in reply]
    assert [sent["first"] for sent in live.sent][:2] == [0, 7]
    for entry, token, span in zip(entries, reply, branch.spans[branch.n_prompt :], strict=True):
        assert entry[0] == span.message - branch.spans[branch.n_prompt].message
        assert entry[3] == quoted(token.text)
        assert entry[5:7] == pytest.approx([np.exp(token.logprob), token.entropy], abs=1e-4)
        assert entry[7] is (token.source == "given")
        assert [text for text, _ in entry[8]] == [quoted(other.text) for other in token.alternatives]
    last = live.sent[-1]
    assert [head["kind"] for head in last["heads"]] == ["analysis", "final"][last["message"] :]
    live._answer(live, "all", [])
    assert live.sent[-1]["tokens"] == entries, "a browser that comes late gets all of them"
    live.finish("It ended.")
    assert (live.sent[-1]["first"], live.sent[-1]["tokens"]) == (0, [])
    assert (live.status, live.running) == ("It ended.", False)
    json.dumps(live.sent, allow_nan=False)


def test_nothing_is_shown_too_often_and_nothing_stays_unseen() -> None:
    shown: list[tuple[float, int]] = []
    state = 0

    def show() -> None:
        shown.append((time.monotonic(), state))

    throttle = Throttle(show)
    began = time.monotonic()
    while time.monotonic() < began + 0.4:
        state += 1
        throttle()
        time.sleep(0.001)
    time.sleep(3 * SHORTEST_PAUSE)  # the stream stalls
    assert shown[-1][1] == state
    assert all(other[0] - one[0] >= SHORTEST_PAUSE for one, other in pairwise(shown))
    assert len(shown) >= 3
    state += 1
    throttle()
    state += 1
    throttle()
    throttle.flush()
    count = len(shown)
    assert shown[-1][1] == state
    time.sleep(2 * SHORTEST_PAUSE)
    assert len(shown) == count, "no timer is left behind"


# The desk, without a browser


@pytest.fixture
def desk(thoughts: lab.ThoughtLab) -> lab.ThoughtDesk:
    fresh = lab.ThoughtLab(thoughts.model, "Which?", seed=5)
    desk = lab.ThoughtDesk(fresh)
    desk.buttons["think"].click()
    desk.wait()
    return desk


def pinned_in_step(desk: lab.ThoughtDesk, number: int) -> int:
    assert desk.branch is not None
    return desk.thoughts[desk.branch].steps[number - 1].start + 1


def test_every_button_makes_the_branch_that_it_names(desk: lab.ThoughtDesk) -> None:
    def press(name: str) -> Any:
        desk.buttons[name].click()
        desk.wait(20)
        assert desk.message.value.count(">") == 2, desk.message.value
        assert desk.branch == desk.thoughts.latest.number
        return desk.thoughts.latest

    assert desk.thoughts[0].finish == "stop"
    desk.pinned = pinned_in_step(desk, 3)
    assert (desk.step.description, desk.step.value) == ("Step 3", desk.thoughts[0].steps[2].text.strip())
    desk.step.value = "Keep 7 safe."
    assert press("replace").text == "7"
    desk.pinned = pinned_in_step(desk, 1)
    desk.step.value = "Hm."
    desk.keep.value = True
    inserted = press("insert")
    assert [step.text.strip() for step in inserted.steps[:3]][1:2] == ["Hm."] and inserted.text == "7"
    desk.pinned = pinned_in_step(desk, 2)
    assert "Hm." not in press("delete").thought
    desk.pinned = pinned_in_step(desk, 2)
    assert len(press("answer").steps) == 3
    desk.effort.value = "low"
    assert press("effort").settings.effort == "low"
    desk.branch = 0
    desk.pinned = pinned_in_step(desk, 3)
    anew = press("anew")
    assert (anew.parent, anew.shared) == (0, pinned_in_step(desk, 3))


def test_what_is_likely_can_be_taken_instead(desk: lab.ThoughtDesk) -> None:
    at = pinned_in_step(desk, 3)
    wanted = desk.thoughts[0].tokens[at].alternatives[1]
    desk.map.taken = (at, 1, 1)  # as a click does
    desk.wait()
    assert (desk.thoughts[1].tokens[at].id, desk.thoughts[1].text, desk.branch) == (wanted.id, wanted.text, 1)


def test_a_stopped_thought_goes_on(thoughts: lab.ThoughtLab) -> None:
    desk = lab.ThoughtDesk(lab.ThoughtLab(thoughts.model, "Which?", seed=5))
    desk.stop()
    desk.do(lambda: desk.thoughts.run(should_stop=lambda: True))
    desk.stop()
    desk.wait()
    desk.buttons["think"].click()
    desk.wait()
    assert desk.thoughts[0].ids == thoughts[0].ids
    assert desk.stream.status == "Branch 0 was ended by the model."


def test_a_monitor_stops_the_thought_and_the_desk_says_why(thoughts: lab.ThoughtLab) -> None:
    desk = lab.ThoughtDesk(lab.ThoughtLab(thoughts.model, "Which?", seed=5), monitors=[monitors.pattern("bells")])
    desk.buttons["think"].click()
    desk.wait()
    assert desk.thoughts[0].finish == "interrupted" and desk.thoughts[0].thought.endswith("bells")
    assert "stopped branch 0 at position" in desk.message.value
    desk.buttons["think"].click()
    desk.wait()
    assert desk.thoughts[0].ids == thoughts[0].ids
    assert "stopped" not in desk.message.value


def test_what_goes_wrong_is_said(desk: lab.ThoughtDesk, tmp_path: Path) -> None:
    desk.path.value = str(tmp_path / "nowhere" / "thought.json")
    desk.buttons["reopen"].click()
    assert "This did not work." in desk.message.value
    desk.do(lambda: desk.thoughts.truncate(99, go_on=False))
    desk.wait()
    assert "branch 0 has no step 99" in desk.message.value
    assert not desk.busy and len(desk.thoughts) == 1
    desk.path.value = str(tmp_path / "thought.json")
    desk.buttons["save"].click()
    desk.buttons["reopen"].click()
    assert "Opened" in desk.message.value and desk.branch == 0
    desk.buttons["export"].click()
    assert (tmp_path / "thought.html").exists()
