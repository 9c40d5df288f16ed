"""Analyses: pure functions from a Trace to arrays and tables. They know nothing of models.

attention   where heads look: distances, sinks, previous tokens, induction, sentences
lens        what the model would say early on
routing     which experts served which text
"""

from gptoss_lab.analyses import attention as attention
from gptoss_lab.analyses import lens as lens
from gptoss_lab.analyses import routing as routing

__all__ = ["attention", "lens", "routing"]
