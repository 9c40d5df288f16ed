"""The thought view's Python half: what a browser gets of branches, and that what is clicked is what Python has."""

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import traitlets

import gptoss_lab as lab
from gptoss_lab.views import front_end
from gptoss_lab.views.plain_text import quoted
from gptoss_lab.views.thought_data import PER_POSITION, branch_data, no_branch, node, page_branches, tree_data
from gptoss_lab.views.thought_view import ThoughtView

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
    for script in ("thought_map.js", "thought_page.js"):
        names = re.findall(r"^(?:async )?(?:function|const|let|class) (\w+)", front_end.module(script), re.MULTILINE)
        declared[script] = sorted({name for name in names if names.count(name) > 1})
    assert not any(declared.values()), declared
