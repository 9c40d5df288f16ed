"""Charts of the experiments on a thought, from the tables that they give."""

import math
from typing import TYPE_CHECKING

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from gptoss_lab.views.chart_view import BLUE, GREY, ORANGE, PINK, ChartView, axis, named, plotted

if TYPE_CHECKING:
    import pandas as pd

N_HEADS = 24
"""So many receiver heads are drawn."""


def answer_curve(table: "pd.DataFrame") -> ChartView:
    """When the answer is settled: its probability when the thought is broken off after each step.

    table: of `ThoughtLab.forced_answer`.
    """
    target = str(table.attrs.get("target", ""))
    band = [*table.high, *reversed(table.low.tolist())]
    figure = go.Figure()
    if (table.high > table.low).any():
        figure.add_scatter(
            x=[*table.step, *reversed(table.step.tolist())],
            y=band,
            mode="lines",
            fill="toself",
            fillcolor="rgba(47,127,194,0.25)",
            line={"width": 0},
            hoverinfo="skip",
            name="95 % interval",
        )
    said = [f"“{plotted(answer)}”" for answer in table.answer]
    figure.add_scatter(
        x=table.step.tolist(),
        y=table.probability.tolist(),
        mode="lines+markers",
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
        yaxis=axis("probability of the answer", tickformat=".0%", range=[-0.03, 1.03]),
    )
    return ChartView(
        "When is the answer settled?",
        "The thought is broken off after each step, and the model must answer at once. Where the curve is high from "
        "the start, the answer did not need the thought. It does not show which step did it: a later one may only say "
        "aloud what was decided before.",
        figure,
    )


def influence_matrix(table: "pd.DataFrame") -> ChartView:
    """Which step what is said later depends on: how far it moves when nothing attends to the step any more.

    table: of `ThoughtLab.suppress`.
    """
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
            z=[[None if math.isnan(value) else value for value in row] for row in matrix.to_numpy().tolist()],
            x=[names[step] for step in matrix.columns],
            y=[names[on] for on in matrix.index],
            customdata=hover,
            zmin=0,
            colorscale="Viridis",
            reversescale=True,
            xgap=2,
            ygap=2,
            colorbar={"title": {"text": "KL, nats a token", "side": "right"}},
            hovertemplate="%{customdata}: %{z:.3f} nats a token<extra></extra>",
        )
    )
    figure.update_layout(
        height=max(300, 90 + 26 * len(matrix)),
        showlegend=False,
        xaxis=axis("step that is no longer looked at", type="category"),
        yaxis=axis("step whose words move", type="category", autorange="reversed"),
    )
    return ChartView(
        "Which steps hang on which?",
        "Attention to one step is knocked out for all that comes later; the text stays as it is. The darker "
        "a cell, the farther what the model expects there moves. An influence may be direct or by way of steps "
        "between.",
        figure,
    )


def importance(table: "pd.DataFrame") -> ChartView:
    """What each step does to the answer: how far answers move when it is drawn anew.

    table: of `ThoughtLab.resample`.
    """
    hover = [_step(*row) for row in zip(table.step, table.text, strict=True)]
    figure = go.Figure()
    for name, color, column, low, high in (
        ("whatever is said instead", BLUE, "kl", "low", "high"),
        ("something else is said instead", ORANGE, "counterfactual", "counterfactual_low", "counterfactual_high"),
    ):
        figure.add_bar(
            x=table.step.tolist(),
            y=_numbers(table[column]),
            name=name,
            marker={"color": color, "pattern": {"shape": "" if column == "kl" else "/"}},
            error_y={
                "array": _numbers(table[high] - table[column]),
                "arrayminus": _numbers(table[column] - table[low]),
                "symmetric": False,
                "color": GREY,
            },
            customdata=hover,
            hovertemplate=f"%{{customdata}}<br>{name}: %{{y:.2f}} nats<extra></extra>",
        )
    figure.add_scatter(
        x=table.step.tolist(),
        y=_numbers(table.chance),
        mode="markers",
        marker={"symbol": "line-ew-open", "size": 26, "color": GREY, "line": {"width": 2}},
        name="what chance alone stays below, 95 times in 100",
        hovertemplate="by chance below %{y:.2f} nats<extra></extra>",
    )
    n = int(table.n.max()) if len(table) else 0
    figure.update_layout(
        height=340,
        barmode="group",
        bargap=0.3,
        xaxis=axis("step that is drawn anew", dtick=1 if len(table) <= 30 else None),
        yaxis=axis("importance: KL of the answers, nats", rangemode="tozero"),
    )
    return ChartView(
        "Which steps does the answer hang on?",
        f"From before and from after each step {n} continuations are drawn. The bars say how far their answers differ, "
        "with 95 % intervals. A step below its grey line may do nothing.",
        figure,
    )


def mistake_chart(table: "pd.DataFrame") -> ChartView:
    """Whether the answer follows a step that is made wrong. table: of `ThoughtLab.mistakes`."""
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
            error_y={
                "array": _numbers(table[high] - table[column]),
                "arrayminus": _numbers(table[column] - table[low]),
                "symmetric": False,
                "color": GREY,
            },
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
    figure.update_layout(
        height=340,
        barmode="group",
        bargap=0.3,
        xaxis=axis("step that is made wrong", type="category"),
        yaxis=axis("share of the answers", tickformat=".0%", range=[-0.03, 1.05]),
    )
    return ChartView(
        "Does the answer follow a mistake?",
        "One step is made wrong, and the model goes on from there. Thinking that is used leads where the mistake "
        "leads; a model that notices and corrects itself leaves the answer as it was, too.",
        figure,
    )


def receiver_chart(table: "pd.DataFrame") -> ChartView:
    """Heads by which few steps are looked at from everywhere later. table: of `ThoughtLab.receiver_heads`."""
    drawn = table[table["kurtosis"].notna()].head(N_HEADS)
    names = [f"layer {layer}, head {head}" for layer, head in zip(drawn.layer, drawn["head"], strict=True)]
    hover = [
        f"{name}<br>looks most at {_step(step, text)}<br>{sink:.0%} of its attention goes to the sink".replace(
            "%", "&#37;"
        )
        for name, step, text, sink in zip(names, drawn.step, drawn.text, drawn.sink, strict=True)
    ]
    figure = go.Figure(
        go.Scatter(
            x=_numbers(drawn["kurtosis"]),
            y=names,
            mode="markers+text",
            text=[f"step {step}" for step in drawn.step],
            textposition="middle right",
            cliponaxis=False,
            marker={"size": 10, "color": BLUE},
            error_x={
                "array": _numbers(drawn.high - drawn["kurtosis"]),
                "arrayminus": _numbers(drawn["kurtosis"] - drawn.low),
                "symmetric": False,
                "color": GREY,
            },
            name="kurtosis, with its 95 % interval; beside it the step that receives most",
            customdata=hover,
            hovertemplate="%{customdata}<br>kurtosis %{x:.2f}<extra></extra>",
        )
    )
    figure.update_layout(
        height=max(260, 110 + 22 * len(drawn)),
        showlegend=True,
        xaxis=axis("excess kurtosis of the steps' attention: the more, the fewer steps receive it"),
        yaxis={"autorange": "reversed", "automargin": True, "zeroline": False},
    )
    aid = (
        f"The {len(drawn)} heads with the highest kurtosis, of {len(table)}. It says where a head looks, not that it "
        "matters: what hangs on a step, the influence matrix tells."
    )
    if drawn.empty:
        aid = "Nothing to draw: it takes four steps that later ones look at, and this thought has fewer."
    return ChartView("Which heads look back at few steps from everywhere?", aid, figure)


def step_routing(table: "pd.DataFrame") -> ChartView:
    """Which experts serve which kind of step. table: of `ThoughtLab.routing_by_step`."""
    kinds = list(dict.fromkeys(table.kind))
    steps = {kind: int(table[table.kind == kind].n.iloc[0]) for kind in kinds}
    titles = [f"{plotted(str(kind))}: {n} step{'s' * (n != 1)}" for kind, n in steps.items()]
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
    figure.update_xaxes(title={"text": "expert", "font": {"size": 12}}, zeroline=False)
    figure.update_yaxes(zeroline=False, dtick=1 if table.layer.max() < 12 else 4, autorange="reversed")
    figure.update_yaxes(title={"text": "layer", "font": {"size": 12}}, col=1)
    figure.update_layout(
        height=max(240, 130 + 26 * (int(table.layer.max()) + 1)),
        showlegend=False,
        coloraxis={
            "cmin": 0,
            "colorscale": "Viridis",
            "reversescale": True,
            "colorbar": {"title": {"text": "share of the tokens", "side": "right"}, "tickformat": ".0%"},
        },
    )
    return ChartView(
        "Which experts serve which kind of step?",
        "▲ more, ▼ less than 95 times in 100 where kinds are dealt to the steps by chance; about one in twenty is "
        "marked by chance alone.",
        figure,
    )


def _step(number: int, text: str) -> str:
    """A step in a tip."""
    return f"step {number}: {plotted(text)}" if text else "before any step"


def _numbers(column: "pd.Series") -> list[float | None]:
    """What a page can hold: NaN is none."""
    return [None if math.isnan(value) else float(value) for value in column]
