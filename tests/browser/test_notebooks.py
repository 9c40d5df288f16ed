"""The notebooks, run from top to bottom in a real JupyterLab."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from looking import assert_readable

pytestmark = pytest.mark.browser


def test_start_here(open_notebook: Callable[..., Any], repository: Path, pictures: Path) -> None:
    notebook = open_notebook(path=repository / "notebooks/00_start_here.ipynb", size=(1280, 2600))
    began = time.monotonic()
    notebook.run_all()
    page = notebook.page
    page.wait_for_selector(".gl-routing .gl-token")
    page.wait_for_selector(".js-plotly-plot .bars .point")
    print(f"ran and painted in {time.monotonic() - began:.0f} s")
    assert notebook.ask("reply.finish") == "'stop'"
    kinds = (
        page.locator(".gl-conversation")
        .first.locator(".gl-message")
        .evaluate_all("all => all.map(m => m.dataset.kind)")
    )
    assert kinds == ["analysis", "final"]
    page.screenshot(path=pictures / "start-here.png")

    thought = page.locator(".gl-routing .gl-line[data-kind='analysis'] .gl-token[data-section='content']")
    digit = thought.filter(has_text=re.compile(r"^\d$")).first
    digit.click()
    notebook.wait_until("view.pinned", digit.get_attribute("id").rsplit("-", 1)[1])
    assert notebook.ask("trace.texts[view.pinned]") == repr(digit.text_content())

    box = page.get_by_placeholder("What is 246 + 135?")
    box.fill("What is 12 + 34?")
    box.press("Enter")
    page.wait_for_function("document.querySelectorAll('.gl-routing').length === 2")
    page.wait_for_function("document.querySelectorAll('.js-plotly-plot .barlayer:has(.point)').length === 2")
    assert_readable(page, ".jp-OutputArea .gptoss")
    assert notebook.errors == []
    page.screenshot(path=pictures / "start-here-asked.png")


def test_notebooks_are_kept_without_outputs(repository: Path) -> None:
    for path in sorted((repository / "notebooks").rglob("*.ipynb")):
        book = nbformat.read(path, as_version=4)
        nbformat.validate(book)
        code = [cell for cell in book.cells if cell.cell_type == "code"]
        assert all(not cell.outputs and cell.execution_count is None for cell in code), path
