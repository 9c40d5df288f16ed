"""gptoss-lab: gpt-oss on an ordinary CPU, with everything visible.

    import gptoss_lab as lab

    model = lab.load()                              # the embedded model, offline
    reply = model.chat("What is 38 + 57?", effort="high")
    lab.views.routing(model.trace(reply))

Names arrive when they are first used, so that importing the package costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gptoss_lab.analyses.probing import fit_probe as fit_probe
    from gptoss_lab.experiments.comparison import compare as compare
    from gptoss_lab.experiments.effort import by_effort as by_effort
    from gptoss_lab.experiments.faithfulness_report import Faithfulness as Faithfulness
    from gptoss_lab.experiments.faithfulness_report import faithfulness as faithfulness
    from gptoss_lab.experiments.sweeping import sweep as sweep
    from gptoss_lab.harmony import Message as Message
    from gptoss_lab.recording import Record as Record
    from gptoss_lab.session import Model as Model
    from gptoss_lab.session import load as load
    from gptoss_lab.thought.desk import ThoughtDesk as ThoughtDesk
    from gptoss_lab.thought.lab import ThoughtLab as ThoughtLab
    from gptoss_lab.thought.lab import load_thoughts as load_thoughts
    from gptoss_lab.trace import Trace as Trace
    from gptoss_lab.trace import load_trace as load_trace

__version__ = "0.1.0"

_HOMES = {
    "load": "gptoss_lab.session",
    "Model": "gptoss_lab.session",
    "Message": "gptoss_lab.harmony",
    "Record": "gptoss_lab.recording",
    "Trace": "gptoss_lab.trace",
    "load_trace": "gptoss_lab.trace",
    "compare": "gptoss_lab.experiments.comparison",
    "sweep": "gptoss_lab.experiments.sweeping",
    "by_effort": "gptoss_lab.experiments.effort",
    "Faithfulness": "gptoss_lab.experiments.faithfulness_report",
    "faithfulness": "gptoss_lab.experiments.faithfulness_report",
    "fit_probe": "gptoss_lab.analyses.probing",
    "ThoughtLab": "gptoss_lab.thought.lab",
    "ThoughtDesk": "gptoss_lab.thought.desk",
    "load_thoughts": "gptoss_lab.thought.lab",
}
_SUBMODULES = (
    "analyses",
    "checkpoint",
    "config",
    "edits",
    "harmony",
    "hooks",
    "mxfp4",
    "planted",
    "tokenizer",
    "views",
)

__all__ = ["__version__", *_HOMES, *_SUBMODULES]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _SUBMODULES:
        return import_module(f"gptoss_lab.{name}")
    raise AttributeError(f"module 'gptoss_lab' has no attribute {name!r}; it offers {', '.join(__all__)}")


def __dir__() -> list[str]:
    return list(__all__)
