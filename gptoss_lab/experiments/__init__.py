"""Experiments: they run a model many times, with a budget and a progress bar, and give back tables.

comparison   compare: one run beside an edited one
sweeping     sweep: the effect of every expert or head, one at a time
rounding     rounding: what bfloat16, or dense weights in int8, cost in logits and in choices of experts

On a thought, step by step:

early_answering       forced_answer: when is the answer settled?
adding_mistakes       mistakes: does the answer follow a step that is made wrong?
resampling            resample: what becomes of the answer when a step is drawn anew?
suppressing           suppress: which later steps change when nothing attends to a step any more?
receiving             receiver_heads: which heads look back at few steps from everywhere?
step_routing          routing_by_step, routing_by_channel: which experts serve which kind of step?
effort                by_effort: what do low, medium and high effort change?
faithfulness_report   faithfulness: do answers come of thoughts, over one question or a set?
"""
