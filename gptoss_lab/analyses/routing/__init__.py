"""Expert routing: which experts served which text, how surely, together with whom, and what that tells.

kinds         what kind of text each token belongs to
load          how much of which text each expert served
choices       how sure the router is, and how evenly it shares the work
pairs         which experts serve the same tokens, and whether more often than by chance
paths         a token's way through the layers, and which tokens take the same
differences   where two runs route differently, and whether rounding alone could have done it
information   what an expert's choice tells of the text, in bits

Axes: layer, expert and pos count from 0; pos from the start of the prompt. A token's *weight* for an expert is what the
router gave it, a softmax over the chosen k, so that a token has weight 1 to give away in each layer.
"""

from gptoss_lab.analyses.routing.choices import NOISE, by_layer, router_entropy, weight_entropy
from gptoss_lab.analyses.routing.differences import flips, flips_by_layer, moved_weight
from gptoss_lab.analyses.routing.information import Pool, mutual_information, pool
from gptoss_lab.analyses.routing.kinds import UNNAMED, Mask, content, labels, reply
from gptoss_lab.analyses.routing.load import expert_load, expert_sums
from gptoss_lab.analyses.routing.pairs import coactivation, expected_counts, meeting_chances, pair_counts
from gptoss_lab.analyses.routing.paths import most_alike, path, path_similarity

__all__ = [
    "expert_load",
    "expert_sums",
    "labels",
    "content",
    "reply",
    "UNNAMED",
    "Mask",
    "router_entropy",
    "weight_entropy",
    "by_layer",
    "NOISE",
    "coactivation",
    "pair_counts",
    "expected_counts",
    "meeting_chances",
    "path",
    "path_similarity",
    "most_alike",
    "flips",
    "flips_by_layer",
    "moved_weight",
    "mutual_information",
    "pool",
    "Pool",
]
