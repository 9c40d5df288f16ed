"""Analyses: pure functions from a Trace to arrays and tables. They know nothing of models.

attention       where heads look: distances, sinks, previous tokens, induction, steps of a thought
contributions   what heads and experts add to a logit, and which tokens they promote; needs the weights too
lens            what the model would say early on
probing         what can be read off the residual stream, held out and beside a control
routing         which experts served which text, how surely, with whom, and what that tells
"""

from gptoss_lab.analyses import attention as attention
from gptoss_lab.analyses import contributions as contributions
from gptoss_lab.analyses import lens as lens
from gptoss_lab.analyses import probing as probing
from gptoss_lab.analyses import routing as routing

__all__ = ["attention", "contributions", "lens", "probing", "routing"]
