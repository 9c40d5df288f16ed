"""Analyses: pure functions from a Trace to arrays and tables. They know nothing of models."""

from gptoss_lab.analyses import lens as lens
from gptoss_lab.analyses import routing as routing

__all__ = ["lens", "routing"]
