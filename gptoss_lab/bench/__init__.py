"""`gptoss-lab bench`: how fast this machine runs a model, beside what the machine could do at best.

Speeds drift with the machine. So everything is measured in turns, round by round, with the machine's limits measured in
each; what is reported is the median over the rounds, and ratios are taken within a round. What depends on memory is
measured anew where memory was read faster before than after, or the other way round.
"""

from gptoss_lab.bench.llama import LlamaCpp
from gptoss_lab.bench.report import table
from gptoss_lab.bench.rounds import Figures, measure, measure_checkpoint

__all__ = ["Figures", "LlamaCpp", "measure", "measure_checkpoint", "table"]
