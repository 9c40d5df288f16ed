"""A tree of thoughts as one JSON file, and back. What a branch has in common with its parent is there once."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from itertools import groupby
from os import PathLike
from pathlib import Path
from typing import Any

from gptoss_lab import edits
from gptoss_lab.harmony import Message, Span
from gptoss_lab.thought.monitors import Alarm
from gptoss_lab.thought.tree import FINISHES, Alternative, Branch, Settings, Source, Token

FORMAT = "gptoss_lab.thoughts/1"
SOURCES: tuple[Source, ...] = ("prompt", "given", "sampled")
LEAST = -1e30
"""Stands for minus infinity, which JSON has not."""


def write(
    path: str | PathLike[str],
    model_name: str,
    kit: str,
    question: Sequence[Message],
    settings: Settings,
    branches: Sequence[tuple[Branch, int]],
    alarms: Sequence[Alarm] = (),
) -> Path:
    """Puts the file in place at once: nobody ever reads half of it. branches: each with its limit of new tokens."""
    texts = {token.id: token.text for branch, _ in branches for token in branch.tokens}
    texts |= {other.id: other.text for branch, _ in branches for token in branch.tokens for other in token.alternatives}
    data = {
        "format": FORMAT,
        "kit": kit,
        "model": model_name,
        "question": [asdict(message) for message in question],
        "settings": _settings_data(settings),
        "texts": texts,
        "branches": [_branch_data(branch, limit) for branch, limit in branches],
        "alarms": [asdict(alarm) for alarm in alarms],
    }
    path = Path(path)
    unfinished = path.with_name(path.name + ".part")
    try:
        unfinished.write_text(json.dumps(data, ensure_ascii=False, allow_nan=False), encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def read(path: str | PathLike[str]) -> dict[str, Any]:
    """model (its name), question, settings, texts (by id), branches (pairs of a branch and its limit) and alarms.

    Raises FileNotFoundError where there is no such file, ValueError where it holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected a file that ThoughtLab.save wrote")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT!r}")
        texts = {int(token): _text(text) for token, text in data["texts"].items()}
        branches: dict[int, tuple[Branch, int]] = {}
        for number, each in enumerate(data["branches"]):
            branches[number] = _branch(each, number, texts, branches), int(each["limit"])
        return {
            "model": _text(data["model"]),
            "question": [Message(**message) for message in data["question"]],
            "settings": _settings(data["settings"]),
            "texts": texts,
            "branches": list(branches.values()),
            "alarms": [_alarm(alarm, len(branches)) for alarm in data.get("alarms", ())],
        }
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise ValueError(f"{path} is not a tree of thoughts as ThoughtLab.save writes it: {reason}") from error


def _branch_data(branch: Branch, limit: int) -> dict[str, Any]:
    runs = [(span, len(list(group))) for span, group in groupby(branch.spans)]
    return {
        "parent": branch.parent,
        "shared": branch.shared,
        "origin": branch.origin,
        "settings": _settings_data(branch.settings),
        "asked": [asdict(message) for message in branch.asked],
        "n_prompt": branch.n_prompt,
        "n_given": branch.n_given,
        "tokens": [_token_data(token) for token in branch.tokens[branch.shared :]],
        "spans": [[n, span.message, span.role, span.channel, span.recipient, span.section] for span, n in runs],
        "messages": [asdict(message) for message in branch.messages],
        "problems": list(branch.problems),
        "finish": branch.finish,
        "limit": limit,
    }


def _branch(
    data: Mapping[str, Any], number: int, texts: Mapping[int, str], before: Mapping[int, tuple[Branch, int]]
) -> Branch:
    shared = before[data["parent"]][0].tokens[: data["shared"]] if data["parent"] is not None else ()
    tokens = (*shared, *(_token(each, texts) for each in data["tokens"]))
    spans = tuple(span for n, *rest in data["spans"] for span in [Span(*rest)] * n)
    if len(spans) != len(tokens) or not 0 < data["n_prompt"] <= data["n_given"] <= len(tokens):
        raise ValueError(f"branch {number} has {len(tokens)} tokens and {len(spans)} spans, or a wrong beginning")
    if data["finish"] not in FINISHES:
        raise ValueError(f"branch {number} is {data['finish']!r}")
    return Branch(
        number=number,
        parent=data["parent"],
        shared=len(shared),
        origin=_text(data["origin"]),
        settings=_settings(data["settings"]),
        asked=tuple(Message(**message) for message in data["asked"]),
        n_prompt=data["n_prompt"],
        n_given=data["n_given"],
        tokens=tokens,
        spans=spans,
        messages=tuple(Message(**message) for message in data["messages"]),
        problems=tuple(map(_text, data["problems"])),
        finish=data["finish"],
    )


def _alarm(data: Mapping[str, Any], n_branches: int) -> Alarm:
    alarm = Alarm(int(data["branch"]), int(data["position"]), _text(data["monitor"]), _text(data["words"]))
    if not 0 <= alarm.branch < n_branches:
        raise ValueError(f"an alarm is of branch {alarm.branch}, which there is not")
    return alarm


def _token_data(token: Token) -> list[Any]:
    others = [[other.id, _number(other.logprob)] for other in token.alternatives]
    return [token.id, SOURCES.index(token.source), _number(token.logprob), _number(token.entropy), others]


def _token(data: Sequence[Any], texts: Mapping[int, str]) -> Token:
    token, source, logprob, entropy, others = data
    alternatives = tuple(Alternative(other, texts[other], _float(chance)) for other, chance in others)
    return Token(token, texts[token], SOURCES[source], _float(logprob), _float(entropy), alternatives)


def _settings_data(settings: Settings) -> dict[str, Any]:
    values = {field.name: getattr(settings, field.name) for field in fields(settings)}
    return values | {"edits": json.loads(edits.to_json(settings.edits))}


def _settings(data: Mapping[str, Any]) -> Settings:
    return Settings(**{**data, "edits": edits.from_json(json.dumps(data["edits"]))})


def _number(value: float) -> float | None:
    return None if math.isnan(value) else max(value, LEAST)


def _float(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"text is expected, and this is none: {str(value)[:80]!r}")
    return value
