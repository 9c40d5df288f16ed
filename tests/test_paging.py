"""What is said of a checkpoint that does not fit into memory."""

import warnings
from pathlib import Path

import pytest
from small import SMALL

from gptoss_lab import checkpoint, costs, paging, weights
from gptoss_lab.weights import Weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    checkpoint.save(folder, SMALL, weights.random(SMALL))
    return folder


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Weights:
    return checkpoint.load(folder)[1]


def test_what_fits_is_not_spoken_of(loaded: Weights, folder: Path) -> None:
    assert paging.estimate(SMALL, loaded, folder) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        paging.warn_of_paging(SMALL, loaded, folder)


def test_what_does_not_fit_is_read_from_the_disk_in_proportion(loaded: Weights, folder: Path) -> None:
    cost, experts = costs.bytes_of_token(SMALL, loaded), costs.experts_bytes(loaded)
    always = cost.dense + cost.unembedding
    half = paging.estimate(SMALL, loaded, folder, free=always + experts // 2)
    none = paging.estimate(SMALL, loaded, folder, free=0)
    assert half is not None
    assert none is not None
    assert half.from_disk == pytest.approx(cost.experts / 2, rel=0.01)
    assert none.from_disk == cost.experts
    assert none.seconds == pytest.approx(none.from_disk / none.disk)


def test_it_is_said_when_a_model_is_loaded(loaded: Weights, folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(paging, "free_memory", lambda: paging._LEFT_FOR_THE_SYSTEM + 1000)
    with pytest.warns(UserWarning, match=r"weights take .* GB .*read from the disk.* GB a token, at .* GB/s"):
        paging.warn_of_paging(SMALL, loaded, folder)


def test_a_control_groups_limit_counts(tmp_path: Path, monkeypatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(paging, "_GROUP_LIMITS", (str(limit),))
    machine = paging.free_memory()
    limit.write_text("3000\n")
    assert paging.free_memory() == 3000
    limit.write_text("max\n")
    assert paging.free_memory() == pytest.approx(machine, rel=0.2)


def test_a_disk_has_a_speed(folder: Path) -> None:
    assert paging.disk_speed(folder.glob("*.safetensors")) > 0
