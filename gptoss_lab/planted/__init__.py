"""Models whose weights are written down rather than learned, so that the right answer of an analysis is known.

    planted = gptoss_lab.planted.build("induction")     # config, weights, encoding and the truth about them
    model = gptoss_lab.load("planted:induction")        # the same, ready to use

Each is a whole gpt-oss: grouped queries, sinks, alternating windows, YaRN's rotary embedding with the constants of
the 20b, biases, top-k routing, clamped SwiGLU, packed experts. To read how one can write a mechanism in weights, begin
with `codes` and `blank` (what a residual stream holds, before anything is planted), go on to `heads` and `experts` (how
an attention head is made to look somewhere and a hidden unit to know something), then take the models, a file each:

    previous_token   heads that look one, two or no tokens back, whatever stands there
    sink_parking     heads that rest on their sinks until one certain token appears
    induction        two heads that together continue "A B ... A" with "B"
    routing          experts that serve one class of tokens each, in the last layer by the token before
    reads_one        a model that reads the one token after a marker, and nothing else
    answer           a model that thinks aloud in harmony's form, and answers with one digit of what it thought
"""

from importlib import import_module
from typing import Any

from gptoss_lab.planted.truth import Planted

NAMES = ("previous-token", "sink-parking", "induction", "routing", "reads-one", "answer")

__all__ = ["NAMES", "Planted", "build"]


def build(name: str) -> Planted[Any]:
    """The planted model of that name, one of `NAMES`; raises ValueError for any other.

    The type of its `truth` is the dataclass of the model's own module, such as `gptoss_lab.planted.routing.Truth`.
    """
    if name not in NAMES:
        raise ValueError(f"there is no planted model {name!r}; there are {', '.join(NAMES)}")
    return import_module(f"gptoss_lab.planted.{name.replace('-', '_')}").build()
