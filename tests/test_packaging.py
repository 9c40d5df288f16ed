"""What people install: the same set by pip and by conda, everything inside, nothing loaded before it is used."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

CONDA_NAMES = {"torch": "pytorch", "playwright": "playwright-python"}  # where conda-forge's name is another
IMPORT_NAMES = {"openai-harmony": "openai_harmony"}  # where the module's name is another
# Modules that a declared dependency itself needs, hence always there with it.
BROUGHT_ALONG = {
    "IPython": "ipywidgets",
    "ipykernel": "jupyterlab",
    "jupyter_client": "jupyterlab",
    "llvmlite": "numba",
    "regex": "tiktoken",
    "requests": "tiktoken",
    "traitlets": "ipywidgets",
}
OPTIONAL = {"xarray"}  # used where they are installed; where not, the error says what to install
HEAVY = {"torch", "numba", "numpy", "pandas", "plotly", "tiktoken", "ipywidgets", "jupyterlab", "transformers"}


@pytest.fixture(scope="module")
def project(repository: Path) -> dict:
    return tomllib.loads((repository / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked: what pip would put into site-packages."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=repository, check=True, capture_output=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def test_conda_gets_the_same_set(repository: Path, project: dict) -> None:
    environment = yaml.safe_load((repository / "environment.yml").read_text())["dependencies"]
    by_conda = {line for line in environment if isinstance(line, str)} - {"pip"}

    requirements = project["dependencies"] + project["optional-dependencies"]["test"]
    by_pip = {"python" + project["requires-python"]}
    for requirement in requirements:
        name, range_ = re.fullmatch(r"([A-Za-z0-9_-]+)([<>=!~].*)", requirement).groups()
        by_pip.add(CONDA_NAMES.get(name, name) + range_)

    assert by_conda == by_pip
    assert {"pip": ["-e ."]} in environment


def test_every_range_is_bounded_on_both_sides(project: dict) -> None:
    for requirement in project["dependencies"] + project["optional-dependencies"]["test"]:
        assert re.search(r">=[\d.]+,<[\d.]+$", requirement), requirement


def test_what_the_package_imports_is_declared(repository: Path, project: dict) -> None:
    names = {re.match(r"[A-Za-z0-9_-]+", requirement).group() for requirement in project["dependencies"]}
    declared = {IMPORT_NAMES.get(name, name) for name in names}
    assert set(BROUGHT_ALONG.values()) <= declared

    imported: dict[str, Path] = {}
    for path in (repository / "gptoss_lab").rglob("*.py"):
        imported |= dict.fromkeys(_top_level_imports(path), path)
    known = declared | set(BROUGHT_ALONG) | OPTIONAL | set(sys.stdlib_module_names) | {"gptoss_lab"}
    assert not {f"{module} (in {path})" for module, path in imported.items() if module not in known}


def test_the_wheel_holds_everything(repository: Path, wheel: Path) -> None:
    packaged = {path.relative_to(wheel).as_posix() for path in wheel.rglob("*") if path.is_file()}
    wanted = {path.relative_to(repository) for path in _tracked(repository, "gptoss_lab", "notebooks")}
    for path in wanted:
        place = Path("gptoss_lab", path) if path.parts[0] == "notebooks" else path
        assert place.as_posix() in packaged
    assert any(name.startswith("gptoss_lab/notebooks/") and name.endswith(".ipynb") for name in packaged)
    assert any(name.startswith("gptoss_lab/nano/") and name.endswith(".safetensors") for name in packaged)
    assert {Path(name).suffix for name in packaged if name.startswith("gptoss_lab/views/")} >= {".js", ".css"}
    assert "gptoss_lab/py.typed" in packaged
    assert any(name.endswith("licenses/LICENSE") for name in packaged)
    assert not any(name.startswith(("tests/", "notebooks/")) for name in packaged)


def test_a_wheel_hands_its_notebooks_out(wheel: Path, tmp_path: Path) -> None:
    program = "from gptoss_lab import handout; print(*handout.shipped(), sep='\\n')"
    command = [sys.executable, "-c", program]
    answer = subprocess.run(command, env={"PYTHONPATH": str(wheel)}, cwd=tmp_path, capture_output=True, text=True)
    assert answer.stdout.splitlines() == [str(wheel / "gptoss_lab" / "notebooks"), "False"]


@pytest.mark.parametrize("arguments", [["-c", "import gptoss_lab"], ["-m", "gptoss_lab", "--help"]])
def test_nothing_heavy_is_loaded_before_it_is_used(arguments: list[str]) -> None:
    command = [sys.executable, "-X", "importtime", *arguments]
    report = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in report.splitlines()}
    assert "gptoss_lab" in loaded
    assert not loaded & HEAVY


def _top_level_imports(path: Path) -> set[str]:
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            modules.add(node.module.partition(".")[0])
    return modules


def _tracked(repository: Path, *folders: str) -> list[Path]:
    """The files that belong to the project; in a copy without its history, all but what tools leave behind."""
    command = ["git", "ls-files", "-z", *folders]
    answer = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    if answer.returncode == 0:
        return [path for name in answer.stdout.split("\0") if name and (path := repository / name).exists()]
    every = (path for folder in folders for path in (repository / folder).rglob("*") if path.is_file())
    left_behind = (".", "__pycache__")
    return [path for path in every if not any(p.startswith(left_behind) for p in path.relative_to(repository).parts)]
