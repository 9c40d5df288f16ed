"""The report on what thoughts do to answers, as a page: findings, two pictures, every question, and the limits."""

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gptoss_lab.views import front_end
from gptoss_lab.views.plain_text import visible

if TYPE_CHECKING:
    import pandas as pd

WIDTH, HEIGHT, LEFT, BOTTOM = 640, 300, 54, 40
LONGEST = 120


def report_page(
    findings: Sequence[str],
    limits: Sequence[str],
    shares: "pd.DataFrame",
    curves: "pd.DataFrame",
    table: "pd.DataFrame",
) -> str:
    """One HTML page that needs nothing but itself. The tables are those of `experiments.faithfulness_report`."""
    return _PAGE.format(
        css=front_end.style("theme.css", "faithfulness_page.css"),
        findings="\n".join(f"<p>{_escaped(finding)}</p>" for finding in findings),
        shares=_shares(shares.to_dict("records")),
        curves=_curves(curves, table),
        rows="\n".join(_row(row) for row in table.to_dict("records")),
        limits="\n".join(f"<li>{_escaped(limit)}</li>" for limit in limits),
    )


def _shares(rows: Sequence[dict[str, Any]]) -> str:
    """A dot with its interval for each share."""
    height = 44 * len(rows) + BOTTOM
    parts = []
    for number, row in enumerate(rows):
        y = 44 * number + 30
        low, high, at = (_x(row[name]) for name in ("low", "high", "share"))
        words = f"{row['part']} of {row['n']}: {row['share']:.0%}, {row['low']:.0%} to {row['high']:.0%}"
        parts += [
            f'<text x="{LEFT}" y="{y - 10}">{_escaped(row["what"])} ({_escaped(words)})</text>',
            f'<line class="interval" x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}"/>',
            f'<circle cx="{at:.1f}" cy="{y}" r="5"/>',
        ]
    label = "How often, with 95 % intervals: " + "; ".join(str(row["what"]) for row in rows)
    return _svg(height, [*_across(height), *parts], label)


def _curves(curves: "pd.DataFrame", table: "pd.DataFrame") -> str:
    """A line for each question: the probability of its answer, over the share of the thought that is kept."""
    parts = _across(HEIGHT)
    for share in (0, 0.25, 0.5, 0.75, 1):
        y = _y(share)
        parts += [f'<line class="grid" x1="{LEFT}" x2="{WIDTH - 10}" y1="{y}" y2="{y}"/>']
        parts += [f'<text class="tick" x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{share:.0%}</text>']
    groups = curves.groupby("question") if len(curves) else []
    for (_, curve), question in zip(groups, table.question, strict=False):
        last = max(int(curve.step.max()), 1)
        points = " ".join(
            f"{_x(step / last):.1f},{_y(chance):.1f}"
            for step, chance in zip(curve.step, curve.probability, strict=True)
        )
        parts.append(f'<polyline points="{points}"><title>{_escaped(_short(question))}</title></polyline>')
    return _svg(HEIGHT, parts, "Probability of each answer over the share of its thought that is kept")


def _across(height: int) -> list[str]:
    """The axis from 0 to 100 %, below."""
    parts = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        x = _x(share)
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="10" y2="{height - BOTTOM + 4}"/>')
        parts.append(f'<text class="tick" x="{x}" y="{height - BOTTOM + 20}" text-anchor="middle">{share:.0%}</text>')
    return parts


def _svg(height: int, parts: Sequence[str], label: str) -> str:
    body = "\n".join(parts)
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{_escaped(label)}">\n{body}\n</svg>'


def _row(row: dict[str, Any]) -> str:
    changed = f"{row['changed']:.0%} of {row['mistakes']}" if row["mistakes"] else "none made"
    cells = (
        _short(row["question"]),
        _short(row["answer"]),
        "yes" if row["at_once"] else "no",
        f"{row['settled']} of {row['steps']}",
        f"{row['carrier']}: {_short(row['carrier_text'])}",
        changed,
    )
    return f"<tr>{''.join(f'<td>{_escaped(cell)}</td>' for cell in cells)}</tr>"


def _x(share: float) -> float:
    return LEFT + share * (WIDTH - LEFT - 20)


def _y(share: float) -> float:
    return 14 + (1 - share) * (HEIGHT - BOTTOM - 14)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def _escaped(text: str) -> str:
    return html.escape(visible(text))


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
<p class="quiet">A dot is the share that was found; the bar is where it may lie, 95 times in 100.</p>
{shares}
<h2>When each answer is settled</h2>
<p class="quiet">Across: how much of the thought is kept before the model must answer. Up: the probability of the answer
that the whole thought reaches, in its very words. A line that is high from the left did not need the thought.</p>
{curves}
<h2>Question by question</h2>
<div class="wide"><table>
<thead><tr><th>question</th><th>answer</th><th>the same at once</th><th>settled after step</th>
<th>the step that carries most</th><th>other answers after mistakes</th></tr></thead>
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
