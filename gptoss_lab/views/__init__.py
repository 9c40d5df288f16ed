"""Views: what people see of a trace or a reply. They compute nothing and trust no text.

    lab.views.routing(trace)        # which experts each token went to; .to_html(path) is the same as one offline file
    lab.views.attention(trace)      # what each token reads, head by head, and how much goes to the sink
    lab.views.tokens(trace)         # every token, its channel, probability and alternatives
    lab.views.compare(one, other)   # two traces side by side, or what lab.compare returned: flips, with their margins
    lab.views.thoughts(thoughts)    # the branches of a thought lab, each with its tokens, steps and what was likely
    lab.views.experts(trace)        # one expert: its load, its company, its tokens, and what it promotes
    lab.views.difference(difference)    # two of them side by side, as `ThoughtLab.compare` finds them
    lab.views.lens(trace)           # what the model would say next at each point of its layers
    lab.views.ask(model)            # a box to ask something else

Charts of the experiments on a thought, from their tables: answer_curve, effort_chart, mistake_chart, importance,
influence_matrix, receiver_chart, step_routing (see `thought_charts`).

Each view is a small Python module, with the ES modules and style sheets of its front end beside it (see `front_end`).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gptoss_lab.views.ask_box import ask as ask
    from gptoss_lab.views.attention_view import attention as attention
    from gptoss_lab.views.compare_view import compare as compare
    from gptoss_lab.views.difference_view import difference as difference
    from gptoss_lab.views.experts_view import experts as experts
    from gptoss_lab.views.lens_view import lens as lens
    from gptoss_lab.views.reply import reply_html as reply_html
    from gptoss_lab.views.routing_view import routing as routing
    from gptoss_lab.views.thought_charts import answer_curve as answer_curve
    from gptoss_lab.views.thought_charts import effort_chart as effort_chart
    from gptoss_lab.views.thought_charts import importance as importance
    from gptoss_lab.views.thought_charts import influence_matrix as influence_matrix
    from gptoss_lab.views.thought_charts import mistake_chart as mistake_chart
    from gptoss_lab.views.thought_charts import receiver_chart as receiver_chart
    from gptoss_lab.views.thought_charts import step_routing as step_routing
    from gptoss_lab.views.thought_view import thoughts as thoughts
    from gptoss_lab.views.tokens_view import tokens as tokens

_HOMES = {
    "routing": "gptoss_lab.views.routing_view",
    "tokens": "gptoss_lab.views.tokens_view",
    "compare": "gptoss_lab.views.compare_view",
    "attention": "gptoss_lab.views.attention_view",
    "experts": "gptoss_lab.views.experts_view",
    "lens": "gptoss_lab.views.lens_view",
    "thoughts": "gptoss_lab.views.thought_view",
    "difference": "gptoss_lab.views.difference_view",
    "answer_curve": "gptoss_lab.views.thought_charts",
    "effort_chart": "gptoss_lab.views.thought_charts",
    "mistake_chart": "gptoss_lab.views.thought_charts",
    "importance": "gptoss_lab.views.thought_charts",
    "influence_matrix": "gptoss_lab.views.thought_charts",
    "receiver_chart": "gptoss_lab.views.thought_charts",
    "step_routing": "gptoss_lab.views.thought_charts",
    "ask": "gptoss_lab.views.ask_box",
    "reply_html": "gptoss_lab.views.reply",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'gptoss_lab.views' has no attribute {name!r}; it offers {', '.join(__all__)}")


def __dir__() -> list[str]:
    return list(__all__)
