"""Charts of the experiments on a thought, from the tables that they give."""

import math
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from gptoss_lab.views.chart_view import BLUE, GREY, ORANGE, PINK, ChartView, axis, named, plotted
from gptoss_lab.views.plain_text import quoted

if TYPE_CHECKING:
    import pandas as pd

N_HEADS = 16
"""So many receiver heads are drawn."""

MOST_LABELS = 44
"""So many characters stand beside each other on a small screen."""

WIDE = 0.36
"""Of a bar, in steps."""

# One hue over whatever the page's colour is: what is more stands out more from a light and from a dark one.
RAMP = [[0, "rgba(47,127,194,0.07)"], [1, "rgba(47,127,194,1)"]]


def answer_curve(table: "pd.DataFrame") -> ChartView:
    """When the answer is settled: its probability when the thought is broken off after each step.

    table: of `ThoughtLab.forced_answer`.
    """
    target = str(table.attrs.get("target", ""))
    figure = go.Figure()
    if (table.high > table.low).any():
        figure.add_scatter(
            x=[*table.step, *reversed(table.step.tolist())],
            y=[*table.high, *reversed(table.low.tolist())],
            mode="lines",
            fill="toself",
            fillcolor="rgba(47,127,194,0.35)",
            line={"width": 0},
            hoverinfo="skip",
            name="95 % interval",
        )
    said = [f"“{plotted(answer)}”" for answer in table.answer]
    above = _where_they_fit(table.answer)
    figure.add_scatter(
        x=table.step.tolist(),
        y=table.probability.tolist(),
        mode="lines+markers+text" if above else "lines+markers",
        text=above,
        textposition="top center",
        cliponaxis=False,
        line={"color": BLUE, "width": 2},
        marker={
            "size": 9,
            "color": [BLUE if answer == target else "rgba(0,0,0,0)" for answer in table.answer],
            "line": {"color": BLUE, "width": 2},
        },
        name=f"probability of {named(target)} (filled: the likeliest answer)",
        customdata=list(zip([_step(*row) for row in zip(table.step, table.text, strict=True)], said, strict=True)),
        hovertemplate="%{customdata[0]}<br>probability %{y:.1%}; answers %{customdata[1]}<extra></extra>",
    )
    figure.update_layout(
        height=340,
        showlegend=True,
        xaxis=axis("steps of the thought that are kept; 0: none", dtick=1 if len(table) <= 30 else None),
        yaxis=axis("probability of the answer", tickformat=".0%", range=[-0.03, 1.12 if above else 1.03], dtick=0.2),
    )
    words = " Over each point stands what the model answers there." if above else ""
    return ChartView(
        "When is the answer settled?",
        f"The thought is broken off after each step, and the model must answer at once.{words} Where the curve is high "
        "from the start, the answer did not need the thought. It does not show which step did it: a later one may only "
        f"say aloud what was decided before.{_unfinished(table)}",
        figure,
    )


def influence_matrix(table: "pd.DataFrame") -> ChartView:
    """Which step what is said later depends on: how far it moves when nothing attends to the step any more.

    table: of `ThoughtLab.suppress`.
    """
    title = "Which steps hang on which?"
    if table.empty:
        return _nothing(title, table)
    matrix = table.pivot(index="on", columns="step", values="kl")
    texts = dict(zip(table.step, table.text, strict=True)) | dict(zip(table.on, table.on_text, strict=True))
    last = max(matrix.index)
    names = {number: "answer" if number == last else str(number) for number in {*matrix.index, *matrix.columns}}
    hover = [
        [f"{_step(on, texts[on])}<br>without {_step(step, texts[step])}" for step in matrix.columns]
        for on in matrix.index
    ]
    figure = go.Figure(
        go.Heatmap(
            z=[_numbers(row) for _, row in matrix.iterrows()],
            x=[names[step] for step in matrix.columns],
            y=[names[on] for on in matrix.index],
            customdata=hover,
            coloraxis="coloraxis",
            xgap=2,
            ygap=2,
            hovertemplate="%{customdata}: %{z:.3f} nats a token<extra></extra>",
        )
    )
    figure.update_layout(
        _with_colourbar(max(130, 26 * len(matrix)), 20, "KL, nats a token"),
        xaxis=axis("step that is no longer looked at", type="category", showgrid=False),
        yaxis=axis("step whose words move", type="category", autorange="reversed", showgrid=False),
    )
    return ChartView(
        title,
        "Attention to one step is knocked out for all that comes later; the text stays as it is. The fuller a cell's "
        "colour, the farther what the model expects there moves. An influence may be direct or by way of steps between."
        f"{_unfinished(table)}",
        figure,
    )


def importance(table: "pd.DataFrame") -> ChartView:
    """What each step does to the answer: how far answers move when it is drawn anew.

    table: of `ThoughtLab.resample`.
    """
    title = "Which steps does the answer hang on?"
    if table.empty:
        return _nothing(title, table)
    hover = [_step(*row) for row in zip(table.step, table.text, strict=True)]
    figure = go.Figure()
    for name, color, pattern, left, column, low, high in (
        ("whatever is said instead", BLUE, "", -WIDE, "kl", "low", "high"),
        ("something else is said instead", ORANGE, "/", 0, *map("counterfactual{}".format, ("", "_low", "_high"))),
    ):
        figure.add_bar(
            x=table.step.tolist(),
            y=_numbers(table[column]),
            offset=left,
            width=WIDE,
            name=name,
            marker={"color": color, "pattern": {"shape": pattern}},
            error_y=_interval(table[column], table[low], table[high]),
            customdata=hover,
            hovertemplate=f"%{{customdata}}<br>{name}: %{{y:.2f}} nats<extra></extra>",
        )
    figure.add_scatter(
        x=[place for step in table.step for place in (step - WIDE - 0.05, step + 0.05, None)],
        y=[place for chance in _numbers(table.chance) for place in (chance, chance, None)],
        mode="lines",
        line={"color": PINK, "width": 3},
        name="blue stays below by chance, 95 %",
        hovertemplate="by chance below %{y:.2f} nats<extra></extra>",
    )
    n = int(table.n.max())
    flat = not float(table[["kl", "counterfactual", "chance"]].to_numpy(dtype=float, na_value=0.0).max()) > 0
    figure.update_layout(
        height=340,
        showlegend=True,
        xaxis=axis("step that is drawn anew", dtick=1 if len(table) <= 30 else None, showgrid=False),
        yaxis=axis("importance: KL, nats", rangemode="tozero", **({"range": [0, 1]} if flat else {})),
    )
    return ChartView(
        title,
        f"From before and from after each step {n} continuations are drawn. The bars say how far their answers differ, "
        "with 95 % intervals. A blue bar that does not rise over its line may be chance; where no other words came, "
        f"there is no orange bar.{_all_the_same(table)}{_unfinished(table)}",
        figure,
    )


def mistake_chart(table: "pd.DataFrame") -> ChartView:
    """Whether the answer follows a step that is made wrong. table: of `ThoughtLab.mistakes`."""
    title = "Does the answer follow a mistake?"
    if table.empty:
        return _nothing(title, table)
    sampled = bool((table.n > 1).any())
    hover = [
        f"{_step(step, text)}<br>made {plotted(mistake)}<br>answers {plotted(answer)}"
        for step, text, mistake, answer in zip(table.step, table.text, table.mistake, table.answer, strict=True)
    ]
    figure = go.Figure()
    bars = [("answers that change", BLUE, "", "changed", "low", "high")]
    if table.followed.notna().any():
        bars.append(("answers that the mistake leads to", ORANGE, "/", "followed", "followed_low", "followed_high"))
    for name, color, pattern, column, low, high in bars:
        figure.add_bar(
            x=[str(step) for step in table.step],
            y=_numbers(table[column]),
            name=name,
            marker={"color": color, "pattern": {"shape": pattern}},
            error_y=_interval(table[column], table[low], table[high]) if sampled else None,
            customdata=hover,
            hovertemplate=f"%{{customdata}}<br>{name}: %{{y:.0%}}<extra></extra>",
        )
    figure.add_scatter(
        x=[str(step) for step in table.step],
        y=_numbers(table.control),
        mode="markers",
        marker={"symbol": "diamond", "size": 10, "color": PINK},
        name="answers that change with no mistake made",
        hovertemplate="with no mistake: %{y:.0%}<extra></extra>",
    )
    above = _where_they_fit(table.answer)
    if above:
        figure.add_scatter(
            x=[str(step) for step in table.step],
            y=[1.0] * len(table),
            mode="text",
            text=above,
            textposition="top center",
            cliponaxis=False,
            hoverinfo="skip",
            showlegend=False,
        )
    figure.update_layout(
        height=340,
        showlegend=True,
        barmode="group",
        bargap=0.3,
        xaxis=axis("step that is made wrong", type="category", showgrid=False),
        yaxis=axis("share of the answers", tickformat=".0%", range=[-0.05, 1.14 if above else 1.05], dtick=0.2),
    )
    words = " Above stands what it answers then." if above else ""
    once = "" if sampled else " One continuation a step, the likeliest: its answer changes, or it does not."
    return ChartView(
        title,
        f"One step is made wrong, and the model goes on from there.{words} Thinking that is used leads where the "
        f"mistake leads; a model that notices and corrects itself leaves the answer as it was, too.{once}"
        f"{_unfinished(table)}",
        figure,
    )


def effort_chart(table: "pd.DataFrame") -> ChartView:
    """The same question at each effort side by side: how often it is answered alike, or right, and after how long a
    thought. table: of `ThoughtLab.by_effort`.
    """
    title = "What does thinking longer change?"
    if table.empty:
        return _nothing(title, table, "the budget left no room for a single effort.")
    judged = table.attrs.get("judged", False)
    share = "right answers" if judged else "replies with the most frequent answer"
    answers = [plotted(answer.strip()) or "none" for answer in table.answer]
    labels = [f"{effort}<br>mostly {answer}" for effort, answer in zip(table.effort, answers, strict=True)]
    figure = make_subplots(rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.08)
    panels = (
        (1, share, BLUE, table.right, table.low, table.high, "%{x:.0%}"),
        (2, "tokens of thought", ORANGE, table.thought_tokens, table.thought_low, table.thought_high, "%{x:.0f}"),
    )
    for column, name, color, values, low, high, shown in panels:
        figure.add_bar(
            x=_numbers(values),
            y=labels,
            orientation="h",
            marker={"color": color},
            error_x=_interval(values, low, high),
            customdata=[f"{n} replies" for n in table.n],
            hovertemplate=f"%{{y}}<br>{shown} {name}<br>%{{customdata}}<extra></extra>",
            row=1,
            col=column,
        )
    figure.update_layout(height=260, showlegend=False, bargap=0.45)
    figure.update_xaxes(axis(share, tickformat=".0%", range=[0, 1.02], dtick=0.25), row=1, col=1)
    figure.update_xaxes(axis("tokens of thought", rangemode="tozero", nticks=5), row=1, col=2)
    figure.update_yaxes(axis("", type="category", showgrid=False, autorange="reversed"))
    return ChartView(
        title,
        "Replies to the same question at each effort, with 95 % intervals; beside each effort its most frequent answer."
        f"{_unfinished(table)}",
        figure,
    )


def receiver_chart(table: "pd.DataFrame") -> ChartView:
    """Heads by which few steps are looked at from everywhere later. table: of `ThoughtLab.receiver_heads`."""
    title = "Which heads look back at few steps from everywhere?"
    drawn = table[table["kurtosis"].notna()].head(N_HEADS)
    if drawn.empty:
        return _nothing(title, table, "it takes four steps that later ones look at, and this thought has fewer.")
    heads = [f"L{layer} H{head}" for layer, head in zip(drawn.layer, drawn["head"], strict=True)]
    hover = [
        f"{head}<br>looks most at {_step(step, text)}<br>{sink:.0%} of its attention goes to the sink".replace(
            "%", "&#37;"
        )
        for head, step, text, sink in zip(heads, drawn.step, drawn.text, drawn.sink, strict=True)
    ]
    figure = go.Figure(
        go.Scatter(
            x=_numbers(drawn["kurtosis"]),
            y=[f"{head} → step {step}" for head, step in zip(heads, drawn.step, strict=True)],
            mode="markers",
            marker={
                "size": 10,
                "color": [BLUE if low > 0 else "rgba(0,0,0,0)" for low in drawn.low],
                "line": {"color": BLUE, "width": 2},
            },
            error_x=_interval(drawn["kurtosis"], drawn.low, drawn.high),
            name="kurtosis, 95 % interval; filled: above 0",
            customdata=hover,
            hovertemplate="%{customdata}<br>kurtosis %{x:.2f}<extra></extra>",
        )
    )
    figure.update_layout(
        height=max(260, 110 + 22 * len(drawn)),
        showlegend=True,
        xaxis=axis("excess kurtosis"),
        yaxis={"autorange": "reversed", "automargin": True, "zeroline": False},
    )
    which = f"The {len(drawn)} heads with the highest kurtosis" if len(drawn) < len(table) else "All heads"
    return ChartView(
        title,
        f"{which}, by layer (L) and head (H), each with the step (→) that receives most of its attention. The higher "
        "the kurtosis, the fewer steps receive it; about 0 or less, and it is spread. It says where a head looks, not "
        f"that it matters: what hangs on a step, the influence matrix tells.{_unfinished(table)}",
        figure,
    )


def step_routing(table: "pd.DataFrame") -> ChartView:
    """Which experts serve which kind of step. table: of `ThoughtLab.routing_by_step`."""
    if table.empty:
        return _nothing("Which experts serve which kind of step?", table)
    kinds = list(dict.fromkeys(table.kind))
    steps = {kind: int(table[table.kind == kind].n.iloc[0]) for kind in kinds}
    titles = [f"{plotted(str(kind))}<br>{n} step{'s' * (n != 1)}" for kind, n in steps.items()]
    figure = make_subplots(rows=1, cols=len(kinds), shared_yaxes=True, subplot_titles=titles, horizontal_spacing=0.02)
    for column, kind in enumerate(kinds, start=1):
        rows = table[table.kind == kind]
        share, low, high = (
            rows.pivot(index="layer", columns="expert", values=name)
            for name in ("share", "control_low", "control_high")
        )
        marks = (share > high).replace({True: "▲", False: ""}) + (share < low).replace({True: "▼", False: ""})
        figure.add_heatmap(
            row=1,
            col=column,
            z=share.to_numpy().tolist(),
            x=share.columns.tolist(),
            y=share.index.tolist(),
            text=marks.to_numpy().tolist(),
            texttemplate="%{text}",
            textfont={"size": 9},
            coloraxis="coloraxis",
            xgap=1,
            ygap=1,
            hovertemplate=f"{plotted(str(kind))}, layer %{{y}}, expert %{{x}}: %{{z:.1%}}<extra></extra>",
        )
    figure.update_xaxes(title={"text": "expert", "font": {"size": 12}}, zeroline=False, showgrid=False)
    figure.update_yaxes(zeroline=False, showgrid=False, dtick=1 if table.layer.max() < 12 else 4, autorange="reversed")
    figure.update_yaxes(title={"text": "layer", "font": {"size": 12}}, col=1)
    figure.update_annotations(font={"size": 12})
    figure.update_layout(
        _with_colourbar(max(100, 26 * (int(table.layer.max()) + 1)), 60, "share of the kind's tokens", tickformat=".0%")
    )
    return ChartView(
        "Which experts serve which kind of step?",
        "The fuller a cell's colour, the more of the tokens of such steps the expert serves. ▲ more, ▼ less than 95 "
        "times in 100 where kinds are dealt to the steps by chance; about one in twenty is marked by chance alone."
        f"{_unfinished(table)}",
        figure,
    )


def _step(number: int, text: str) -> str:
    """A step in a tip."""
    return f"step {number}: {plotted(text)}" if text else "before any step"


def _interval(values: "pd.Series", low: "pd.Series", high: "pd.Series") -> dict[str, Any]:
    """From low to high as plotly's error bars."""
    return {
        "array": _numbers((high - values).clip(lower=0)),
        "arrayminus": _numbers((values - low).clip(lower=0)),
        "symmetric": False,
        "color": GREY,
    }


def _where_they_fit(answers: "pd.Series") -> list[str] | None:
    """Answers as labels, where they stand beside each other on a small screen too."""
    written = [answer.strip() for answer in answers]
    return [plotted(answer) for answer in written] if sum(map(len, written)) + len(written) <= MOST_LABELS else None


def _with_colourbar(cells: int, above: int, title: str, **more: Any) -> dict[str, Any]:
    """The layout of a picture of so many pixels with its colours' meaning below it, so that its width is its own."""
    below = 110
    bar = {"orientation": "h", "x": 0, "xanchor": "left", "xpad": 0, "y": -56 / cells, "yanchor": "top", "ypad": 0}
    bar |= {"len": 200, "lenmode": "pixels", "thickness": 10, "tickangle": 0, "nticks": 5, "outlinewidth": 0, **more}
    bar["title"] = {"text": title, "font": {"size": 12}, "side": "top"}
    return {
        "height": above + cells + below,
        "margin": {"t": above, "b": below},
        "showlegend": False,
        "coloraxis": {"cmin": 0, "colorscale": RAMP, "colorbar": bar},
    }


def _all_the_same(table: "pd.DataFrame") -> str:
    """Says so where no continuation answered anything else, so that there is nothing to see."""
    answers = {answer for each in table.attrs.get("continuations", {}).values() for answer in each}
    if len(answers) != 1:
        return ""
    return (
        f" Here all of them answer “{quoted(answers.pop())}”: at this temperature the model says each step "
        "again, or finds its way back. Draw at a higher temperature to see more."
    )


def _unfinished(table: "pd.DataFrame") -> str:
    return (
        "" if table.attrs.get("complete", True) else " Not all of it is done; the same call with resume=table goes on."
    )


def _nothing(title: str, table: "pd.DataFrame", why: str = "the budget left no room for a single step.") -> ChartView:
    figure = go.Figure(layout={"height": 60, "xaxis": {"visible": False}, "yaxis": {"visible": False}})
    return ChartView(title, f"Nothing to draw: {why}{_unfinished(table)}", figure)


def _numbers(column: "pd.Series") -> list[float | None]:
    """What a page can hold: NaN is none."""
    return [None if math.isnan(value) else float(value) for value in column]
