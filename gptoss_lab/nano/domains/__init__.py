"""What the embedded model learns: one module a domain, each with a function that draws a problem.

A domain knows its questions and its answers, how to think them through, and what a tool says on the way. It knows
nothing of conversations, tokens or the split between training and held-out questions: those are `data`'s.
"""

from gptoss_lab.nano.domains import (
    answer_forms,
    arithmetic,
    browser,
    cups,
    false_results,
    functions,
    machine,
    no_call,
    python,
    refusal,
    unknown,
)
from gptoss_lab.nano.domains.problem import Call, Domain, Effort, Problem
from gptoss_lab.nano.domains.serial import Serial

DOMAINS: dict[str, Domain] = {
    "addition": arithmetic.addition,
    "subtraction": arithmetic.subtraction,
    "machine": machine.draw,
    "cups": cups.draw,
    "words": answer_forms.worded,
    "json": answer_forms.as_json,
    "python": python.draw,
    "browser": browser.draw,
    "functions": functions.draw,
    "false result": false_results.draw,
    "no call": no_call.draw,
    "refusal": refusal.draw,
    "unknown": unknown.draw,
}

SERIAL: dict[str, Serial] = {"machine": machine.SERIAL, "cups": cups.SERIAL}
"""Domains whose thinking goes from state to state, and can be executed on from any of them."""

__all__ = ["DOMAINS", "SERIAL", "Call", "Domain", "Effort", "Problem", "Serial"]
