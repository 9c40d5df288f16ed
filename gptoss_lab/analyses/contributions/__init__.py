"""Contributions: what each head and each chosen expert adds to the residual stream, and through it to a token's logit.

shares        how large each chosen expert's share is, and where it points
attribution   each head's and expert's part in a logit; the parts sum to the logit
vocabulary    which tokens a direction, such as an expert's output, makes likelier
"""

from gptoss_lab.analyses.contributions.attribution import logit_attribution
from gptoss_lab.analyses.contributions.shares import expert_shares
from gptoss_lab.analyses.contributions.vocabulary import promoted, promoted_by_expert, unit_directions

__all__ = ["expert_shares", "logit_attribution", "promoted", "promoted_by_expert", "unit_directions"]
