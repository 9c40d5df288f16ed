"""The README's pictures: views of one reply of the embedded model, as a page shows it.

    GPTOSS_LAB_PICTURES=tests/browser/pictures pytest tests/browser/test_pictures.py

writes them anew.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import gptoss_lab as lab

pytestmark = pytest.mark.browser

MOST_BYTES = 150_000
QUESTION = "What is 246 + 135?"


@pytest.fixture(scope="module")
def model() -> Any:
    return lab.load()


@pytest.fixture(scope="module")
def trace(model: Any) -> Any:
    record = ("routing", "attention", "lens")
    return model.chat(QUESTION, effort="high", temperature=0, record=record, display=False).trace


@pytest.fixture(scope="module")
def carry(trace: Any) -> int:
    """The position of the first token that speaks of a carry, or of the reply's first."""
    return next((place for place, text in enumerate(trace.texts) if text.strip() == "carry"), trace.n_prompt)


@pytest.fixture
def keep(open_page: Callable[..., Any], pictures: Path) -> Callable[..., None]:
    """`keep(view, name, size)` takes a picture of a view, as large as a window of that size."""

    def keep_it(view: Any, name: str, size: tuple[int, int]) -> None:
        page = open_page(view, size=size)
        page.wait_for_timeout(500)  # plotly moves its bars
        picture = pictures / f"{name}.png"
        page.screenshot(path=picture)
        assert page.errors == []
        assert picture.stat().st_size <= MOST_BYTES, f"{picture.name} has {picture.stat().st_size:,} bytes"

    return keep_it


def test_routing(keep: Callable[..., None], trace: Any, carry: int) -> None:
    view = lab.views.routing(trace)
    view.pinned, view.part = carry, "reply"
    keep(view, "routing", (1120, 600))


def test_tokens(keep: Callable[..., None], trace: Any) -> None:
    view = lab.views.tokens(trace)
    view.colour = "margin"
    keep(view, "tokens", (960, 520))


def test_compare(keep: Callable[..., None], model: Any, trace: Any, carry: int) -> None:
    edit = lab.edits.mask_expert(layer=1, expert=int(trace.expert_indices[1, carry, 0]))
    view = lab.views.compare(lab.compare(model, QUESTION, edit, effort="high"))
    view.pinned, view.part = carry, "reply"
    keep(view, "compare", (1120, 800))


@pytest.mark.parametrize("name", ["attention", "lens", "experts"])
def test_others(keep: Callable[..., None], trace: Any, name: str) -> None:
    keep(getattr(lab.views, name)(trace), name, (1060, 520))
