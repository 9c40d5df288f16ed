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

# Neither what is compiled here nor what JupyterLab notes down goes into the user's own folders, and nothing of theirs
# is read. Tests, and the processes that they start, share these, so that the kernels compile once.
_SESSION = Path(tempfile.mkdtemp(prefix="gptoss-lab-tests-"))
for _variable, _folder in {
    "NUMBA_CACHE_DIR": "kernels",
    "JUPYTER_CONFIG_DIR": "jupyter/config",
    "JUPYTER_DATA_DIR": "jupyter/data",
    "JUPYTER_RUNTIME_DIR": "jupyter/runtime",
    "JUPYTERLAB_SETTINGS_DIR": "jupyter/settings",
    "JUPYTERLAB_WORKSPACES_DIR": "jupyter/workspaces",
    "IPYTHONDIR": "ipython",
}.items():
    os.environ.setdefault(_variable, str(_SESSION / _folder))


def pytest_unconfigure() -> None:
    shutil.rmtree(_SESSION, ignore_errors=True)


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
