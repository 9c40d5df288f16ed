"""The activation between an expert's two matrices."""

from gptoss_lab.ops.compile import device
from gptoss_lab.ops.simd import exp, maximum, minimum, splat


@device
def swiglu(gate, up, limit):
    """gate * sigmoid(1.702 gate) * (up + 1), the gate clamped above and up on both sides. (gpt-oss,
    gpt_oss/torch/model.py.)
    """
    gate = minimum(gate, limit)
    up = maximum(minimum(up, limit), splat(0.0) - limit)
    return gate * (up + splat(1.0)) / (splat(1.0) + exp(splat(-1.702) * gate))
