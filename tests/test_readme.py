"""The README: its commands are the ones that work, its code runs, its links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def readme(repository: Path) -> str:
    return (repository / "README.md").read_text(encoding="utf-8")


def test_it_begins_with_the_two_commands(readme: str) -> None:
    commands = re.match(r"```sh\n(.+?)```\n", readme, re.DOTALL).group(1)
    assert commands.splitlines() == ["pip install -e . && gptoss-lab", 'pip install -e ".[test]" && pytest']


def test_its_links_lead_somewhere(readme: str, repository: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", readme):
        assert target.startswith("https://") or (repository / target).exists(), target


def test_the_places_that_it_names_are_there(readme: str, repository: Path) -> None:
    for row in re.findall(r"^\| (`[^|]+) \|", readme, re.MULTILINE):
        folder = Path()
        for name in re.findall(r"`([^`]+)`", row):
            path = repository / name if (repository / name).exists() else repository / folder / name
            assert path.exists(), name
            folder = path.parent


def test_its_code_runs(readme: str, tmp_path: Path) -> None:
    shown = re.findall(r"```python\n(.+?)```", readme, re.DOTALL)
    offline = "\n".join(block for block in shown if "openai/gpt-oss-20b" not in block)
    assert offline.count("model.chat(") >= 2  # or there is nothing to run
    ran = subprocess.run([sys.executable, "-c", offline], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
