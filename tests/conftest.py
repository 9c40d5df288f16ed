"""What every test runs under: two threads, no network, and one folder of compiled kernels for the whole session."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

# These are read when numba, torch and the hub's client are first imported, hence here and not in a fixture.
# Two threads whatever the machine: small models run slower on many, and kernels are tested with one and with two.
os.environ.setdefault("NUMBA_NUM_THREADS", "2")
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# Tests, and the processes that they start, compile the kernels once between them, and never into the user's own cache.
_KERNELS = tempfile.mkdtemp(prefix="gptoss-lab-kernels-") if "NUMBA_CACHE_DIR" not in os.environ else None
if _KERNELS:
    os.environ["NUMBA_CACHE_DIR"] = _KERNELS


def pytest_unconfigure() -> None:
    if _KERNELS:
        shutil.rmtree(_KERNELS, ignore_errors=True)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout's top folder."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a chromium to drive; the test skips where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("no chromium on the PATH, so nothing to look at a page with (Debian: apt-get install chromium)")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder, for this test and the processes that it starts."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    return folder
