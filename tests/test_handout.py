"""Notebooks handed out: what is new arrives, and nothing that anyone changed is written over."""

import json
from pathlib import Path

import pytest

from gptoss_lab.handout import RECORD, hand_out


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "shipped"
    (folder / "labs").mkdir(parents=True)
    (folder / "lesson.ipynb").write_text("first")
    (folder / "labs" / "one.ipynb").write_text("a lab")
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / ".ipynb_checkpoints" / "lesson.ipynb").write_text("a left-over")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mine"


def test_everything_arrives_once(source: Path, folder: Path) -> None:
    assert hand_out(source, folder).added == ["labs/one.ipynb", "lesson.ipynb"]
    again = hand_out(source, folder)
    assert (again.added, again.updated, again.beside) == ([], [], [])
    assert _files(folder) == {"labs/one.ipynb": "a lab", "lesson.ipynb": "first"}


def test_an_untouched_copy_gets_the_new_version(source: Path, folder: Path) -> None:
    hand_out(source, folder)
    (source / "lesson.ipynb").write_text("second")
    assert hand_out(source, folder).updated == ["lesson.ipynb"]
    assert _files(folder)["lesson.ipynb"] == "second"


def test_a_changed_copy_stays_and_the_new_version_goes_beside_it(source: Path, folder: Path) -> None:
    hand_out(source, folder)
    (folder / "lesson.ipynb").write_text("first, with my notes")
    assert not hand_out(source, folder).beside  # nothing new to offer yet

    (source / "lesson.ipynb").write_text("second")
    assert hand_out(source, folder).beside == [("lesson.ipynb", "lesson.new.ipynb")]
    assert not hand_out(source, folder).beside  # said once

    (folder / "lesson.new.ipynb").write_text("second, with my notes")
    (source / "lesson.ipynb").write_text("third")
    assert hand_out(source, folder).beside == [("lesson.ipynb", "lesson.new2.ipynb")]
    assert _files(folder) == {
        "labs/one.ipynb": "a lab",
        "lesson.ipynb": "first, with my notes",
        "lesson.new.ipynb": "second, with my notes",
        "lesson.new2.ipynb": "third",
    }


def test_an_untouched_version_beside_a_changed_copy_is_brought_up_to_date(source: Path, folder: Path) -> None:
    hand_out(source, folder)
    (folder / "lesson.ipynb").write_text("mine")
    for text in ("second", "third"):
        (source / "lesson.ipynb").write_text(text)
        hand_out(source, folder)
    assert _files(folder)["lesson.new.ipynb"] == "third"
    assert "lesson.new2.ipynb" not in _files(folder)


def test_a_version_that_was_thrown_away_does_not_return(source: Path, folder: Path) -> None:
    hand_out(source, folder)
    (folder / "lesson.ipynb").write_text("mine")
    (source / "lesson.ipynb").write_text("second")
    hand_out(source, folder)
    (folder / "lesson.new.ipynb").unlink()
    hand_out(source, folder)
    assert not (folder / "lesson.new.ipynb").exists()


def test_a_deleted_notebook_comes_back_fresh(source: Path, folder: Path) -> None:
    hand_out(source, folder)
    (folder / "lesson.ipynb").unlink()
    assert hand_out(source, folder).added == ["lesson.ipynb"]


@pytest.mark.parametrize("record", [None, "not json", "[]", json.dumps({"lesson.ipynb": 3}), b"\xff\xfe"])
def test_without_its_record_every_difference_counts_as_a_change(source: Path, folder: Path, record: object) -> None:
    folder.mkdir()
    (folder / "lesson.ipynb").write_text("somebody's own")
    if record is not None:
        (folder / RECORD).write_bytes(record if isinstance(record, bytes) else str(record).encode())
    assert hand_out(source, folder).beside == [("lesson.ipynb", "lesson.new.ipynb")]
    assert _files(folder)["lesson.ipynb"] == "somebody's own"


def test_a_folder_that_cannot_be_made_is_named(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        hand_out(source, tmp_path / "file" / "notebooks")


def _files(folder: Path) -> dict[str, str]:
    """Contents by path; the record aside, and nothing half-written may lie about."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    assert found.pop(RECORD, None)
    return {name: path.read_text() for name, path in found.items()}
