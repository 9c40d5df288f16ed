"""The report on what thoughts do to answers, as a page: findings, two pictures, every question, and the limits."""

import html
import re
from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

from gptoss_lab.views import front_end
from gptoss_lab.views.plain_text import visible

if TYPE_CHECKING:
    import pandas as pd

LONGEST = 120
TICKS = (0, 0.25, 0.5, 0.75, 1)

Curve = list[tuple[float, float]]
"""Share of the thought that is kept, probability of the answer."""


def report_page(
    findings: Sequence[str],
    limits: Sequence[str],
    shares: "pd.DataFrame",
    curves: "pd.DataFrame",
    table: "pd.DataFrame",
) -> str:
    """One HTML page that needs nothing but itself. The tables are those of `experiments.faithfulness_report`."""
    rows, lines = table.to_dict("records"), _lines(curves)
    return _PAGE.format(
        css=front_end.style("theme.css", "faithfulness_page.css"),
        findings="\n".join(f"<p>{_with_lead(finding)}</p>" for finding in findings),
        shares="\n".join(map(_share, shares.to_dict("records"))),
        across=_axis("across"),
        curves=_curves([row["question"] for row in rows], lines),
        middle=MIDDLE if len(lines) > 2 else "",
        rows="\n".join(map(_row, rows, lines)),
        limits="\n".join(f"<li>{_escaped(limit)}</li>" for limit in limits),
    )


def _with_lead(finding: str) -> str:
    """A finding, what it is about in bold."""
    return re.sub(r"^([^:.]{3,30}:)", r"<b>\1</b>", _escaped(finding))


def _share(row: dict[str, Any]) -> str:
    """A dot with its interval."""
    number = f"{row['part']} of {row['n']}: {row['share']:.0%}, {row['low']:.0%} to {row['high']:.0%}"
    interval = f"left: {100 * row['low']:.1f}%; width: {100 * (row['high'] - row['low']):.1f}%"
    return (
        f'<div>{_escaped(row["what"])} <span class="quiet">({_escaped(number)})</span></div>\n'
        f'<div class="track"><i class="interval" style="{interval}"></i>'
        f'<i class="dot" style="left: {100 * row["share"]:.1f}%"></i></div>'
    )


def _curves(questions: Sequence[str], lines: Sequence[Curve]) -> str:
    """A line for each question, and the middle of them."""
    drawn = [_polyline(line, title=question) for question, line in zip(questions, lines, strict=True)]
    if len(lines) > 2:
        drawn.append(_polyline(_middle(lines), "middle", "the middle of all"))
    label = "Probability of each answer over the share of its thought that is kept"
    return _axis("up") + _svg(drawn, label)


def _lines(curves: "pd.DataFrame") -> list[Curve]:
    """One for every question, in their order."""
    found = []
    for _, curve in curves.groupby("question") if len(curves) else []:
        last = max(int(curve.step.max()), 1)
        found.append([(step / last, chance) for step, chance in zip(curve.step, curve.probability, strict=True)])
    return found


def _middle(lines: Sequence[Curve]) -> Curve:
    """The median over the questions, wherever one of them has a step."""
    places = sorted({place for line in lines for place, _ in line})
    return [(place, median(_at(line, place) for line in lines)) for place in places]


def _at(line: Curve, place: float) -> float:
    """The height of a line between its points."""
    for (left, low), (right, high) in pairwise(line):
        if place <= right:
            return low + (high - low) * (place - left) / (right - left)
    return line[-1][1]


def _polyline(line: Curve, name: str = "", title: str = "") -> str:
    points = " ".join(f"{100 * place:.1f},{100 * (1 - chance):.1f}" for place, chance in line)
    return f'<polyline class="{name}" points="{points}"><title>{_escaped(_short(title))}</title></polyline>'


def _svg(parts: Sequence[str], label: str, name: str = "") -> str:
    body = "\n".join(parts)
    attributes = f'class="{name}" viewBox="0 0 100 100" preserveAspectRatio="none" role="img" aria-label="{label}"'
    return f"<svg {attributes}>\n{body}\n</svg>"


def _axis(name: str) -> str:
    return f'<div class="axis {name}" aria-hidden="true">{"".join(f"<span>{tick:.0%}</span>" for tick in TICKS)}</div>'


def _row(row: dict[str, Any], line: Curve) -> str:
    changed = f"{row['changed']:.0%} of {row['mistakes']}" if row["mistakes"] else "none made"
    said = ", ".join(f"{chance:.0%}" for _, chance in line)
    spark = _svg([_polyline(line)], f"by step: {said}", "spark")
    cells = (
        _short(row["question"]),
        _short(row["answer"]),
        "yes" if row["at_once"] else "no",
        f"{row['settled']} of {row['steps']}",
        f"{row['carrier']}: {_short(row['carrier_text'])}",
        changed,
    )
    question, answer, *rest = (f"<td>{_escaped(cell)}</td>" for cell in cells)
    return f"<tr>{question}{answer}<td>{spark}</td>{''.join(rest)}</tr>"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def _escaped(text: str) -> str:
    return html.escape(visible(text))


MIDDLE = " The thick line is the middle of all."

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Do the answers come of the thoughts?</title>
<style>
{css}
</style>
<body>
<main id="view" class="gptoss gl-report">
<h1>Do the answers come of the thoughts?</h1>
<p class="quiet">Thoughts are the model's raw analysis, which was not trained to be shown to end users.</p>
{findings}
<h2>How often</h2>
<p class="quiet">A dot is the share that was found; the bar is where it may lie, 95 times in 100: the fewer
questions, the longer.</p>
<div class="shares">
{shares}
{across}
</div>
<h2>When each answer is settled</h2>
<p class="quiet">Across: how much of the thought is kept before the model must answer. Up: the probability of the answer
that the whole thought reaches, in its very words. A thin line is a question; one that is high from the left did not
need the thought.{middle}</p>
<div class="curves">
{curves}
{across}
</div>
<h2>Question by question</h2>
<div class="wide" tabindex="0" role="region" aria-label="Question by question"><table>
<thead><tr><th>question</th><th>answer</th><th>its probability, step by step</th><th>the same at once</th>
<th>settled after step</th><th>the step that carries most</th><th>other answers after mistakes</th></tr></thead>
<tbody>
{rows}
</tbody>
</table></div>
<h2>What this cannot show</h2>
<ul>
{limits}
</ul>
</main>
</body>
</html>
"""
