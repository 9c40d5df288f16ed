"""What the embedded model learns: one module a domain, each a function that draws a problem at random.

A domain knows its questions and its answers, and how to think them through. It knows nothing of conversations, tokens
or the split between training and held-out questions: those are `data`'s.
"""

from gptoss_lab.nano.domains import arithmetic, unknown
from gptoss_lab.nano.domains.problem import Call, Domain, Effort, Problem

DOMAINS: dict[str, Domain] = {
    "addition": arithmetic.addition,
    "subtraction": arithmetic.subtraction,
    "unknown": unknown.unknown,
}

__all__ = ["DOMAINS", "Call", "Domain", "Effort", "Problem"]
