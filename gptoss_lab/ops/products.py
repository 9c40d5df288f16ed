"""Products of stored matrices and vectors: which kernels make them, and what the kernels are told. All tensors are
given by address.

Few vectors meet a matrix in dot products. Many go in panels of LANES vectors, unless whole numbers are faster (see
`target`); what does not fill a panel goes in dot products again.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gptoss_lab.int8 import Int8
from gptoss_lab.mxfp4 import Mxfp4
from gptoss_lab.ops import Precision, dot_kernels, panel_kernels
from gptoss_lab.ops.dot_kernels import Dots
from gptoss_lab.ops.formats import BFLOAT16, FLOAT32, INT8, MXFP4, PAIRS, scale_bytes
from gptoss_lab.ops.panel_kernels import Packing, Product
from gptoss_lab.ops.target import DIGITS_FOR_MANY, INSTRUCTION_SET, LANES
from gptoss_lab.ops.threads import launch, lock, scratch, threads

MOST_IN_PANELS = 512
"""Vectors that go in panels together: those of one panel after another should stay in the L2 cache."""

_AT_ONCE = LANES if INSTRUCTION_SET == "avx512" else 2 * LANES  # vectors in panels whose sums fill the registers
_WORTH_PANELS = {"float32": 0.9, "bfloat16": 0.6}  # of these: then panels are faster than dot products
_PAGE = 1024  # floats
_FEW = 4  # vectors that each thread prepares for itself, sooner than all could wait for each other
_FORMATS = {torch.float32: FLOAT32, torch.bfloat16: BFLOAT16}


class Matrices(NamedTuple):
    """Matrices [n_out, n_in], one after another in memory, and a bias [n_out] for each (or 0)."""

    format: int
    weights: int
    scales: int
    bias: int
    n_out: int
    n_in: int

    def number(self, i: int) -> "Matrices":
        """The i-th, and what follows."""
        rows = i * self.n_out
        return self._replace(
            weights=self.weights + rows * self.n_in * 4 // self.format,
            scales=self.scales + rows * scale_bytes(self.format, self.n_in),
            bias=self.bias and self.bias + 4 * rows,
        )


class Groups(NamedTuple):
    """Vectors starts[g] to ends[g] - 1 are to meet matrix matrices[g] (or the g-th, where that is 0); all int64."""

    matrices: int
    starts: int
    ends: int
    n: int


class Rows(NamedTuple):
    """Where vectors come from or go to: vector i is row places[i] (int64; or row i, where places is 0)."""

    data: int
    places: int = 0

    def beyond(self, i: int, n: int) -> "Rows":
        """The rows from the i-th on, which have n elements each."""
        return Rows(self.data, self.places + 8 * i) if self.places else Rows(self.data + 4 * i * n)


def stored(weight: Tensor | Mxfp4 | Int8, bias: Tensor | None) -> Matrices:
    """weight: [..., n_out, n_in]; bias: float32 [..., n_out].

    Raises TypeError for a type that no kernel reads, ValueError for weights that are not contiguous.
    """
    n_out, n_in = weight.shape[-2:]
    if isinstance(weight, Mxfp4):
        format, weights, scales = MXFP4, address_of(weight.blocks), address_of(weight.scales)
    elif isinstance(weight, Int8):
        format, weights, scales = INT8, address_of(weight.values), address_of(weight.scales)
    elif weight.dtype in _FORMATS:
        format, weights, scales = _FORMATS[weight.dtype], address_of(weight), 0
    else:
        raise TypeError(
            f"weights are MXFP4, int8 in blocks, bfloat16 or float32 for the numba engine, not {weight.dtype}"
        )
    return Matrices(format, weights, scales, 0 if bias is None else address_of(bias), n_out, n_in)


def address_of(tensor: Tensor) -> int:
    """Raises ValueError where a tensor is not contiguous."""
    if not tensor.is_contiguous():
        raise ValueError(
            f"weights of shape {tuple(tensor.shape)} are not contiguous; keep a `.contiguous()` copy of them"
        )
    return tensor.data_ptr()


def order_of(matrix: Matrices, precision: Precision) -> int:
    """The order of the panels that a matrix is to meet: pairs in bfloat16, unless the weights need float32."""
    return PAIRS if precision == "bfloat16" and matrix.format != FLOAT32 else matrix.format


def number_in_panels(matrix: Matrices, n: int, precision: Precision) -> int:
    """How many of n vectors that meet a matrix should go in panels."""
    if DIGITS_FOR_MANY and matrix.format == MXFP4:
        return 0
    whole, rest = divmod(n, _AT_ONCE)
    return n if rest >= _WORTH_PANELS[precision] * _AT_ONCE else whole * _AT_ONCE


def multiply_in_panels(matrix: Matrices, precision: Precision, x: Rows, n: int, out: Rows) -> None:
    """out = matrix x + bias, for n vectors."""
    order = order_of(matrix, precision)
    size = panel_kernels.panel_floats(order, matrix.n_in, n)
    with lock:
        panels = scratch(size + panel_kernels.scratch_floats(n, threads()))
        own = panels + 4 * size
        _pack(matrix, order, x, n, panels, own)
        _multiply(matrix, order, panels, n, out, own)


def expert_in_panels(
    gate_up: Matrices,
    down: Matrices,
    limit: float,
    precision: Precision,
    x: Rows,
    n: int,
    out: Rows,
    factors: int,
) -> None:
    """out = (down swiglu(gate_up x + bias) + bias) * factors, for n vectors."""
    order, hidden_order = order_of(gate_up, precision), order_of(down, precision)
    size = panel_kernels.panel_floats(order, gate_up.n_in, n)
    hidden_size = panel_kernels.panel_floats(hidden_order, down.n_in, n)
    with lock:
        panels = scratch(size + hidden_size + panel_kernels.scratch_floats(n, threads()))
        hidden, own = panels + 4 * size, panels + 4 * (size + hidden_size)
        _pack(gate_up, order, x, n, panels, own)
        _multiply(gate_up, order, panels, n, Rows(hidden), own, out_order=hidden_order, limit=limit)
        _multiply(down, hidden_order, hidden, n, out, own, factors=factors)


def _pack(matrix: Matrices, order: int, x: Rows, n: int, panels: int, own: int) -> None:
    job = Packing(x.data, x.places, n, matrix.n_in, order, panels, own)
    launch(panel_kernels.pack, job, 4 * n * matrix.n_in)


def _multiply(
    matrix: Matrices,
    order: int,
    panels: int,
    n: int,
    out: Rows,
    own: int,
    *,
    out_order: int = 0,
    limit: float = 0.0,
    factors: int = 0,
) -> None:
    job = Product(*matrix, order, panels, n, out.data, out_order, limit, out.places, factors, own)
    launch(panel_kernels.multiply, job, n * matrix.n_out * matrix.n_in)


def dot_products(matrix: Matrices, precision: Precision, x: Rows, n: int, out: Rows, first: int = 0) -> None:
    """out = matrix x + bias, for vectors `first` to n - 1."""
    bounds = np.array([first, n], dtype=np.int64)
    groups = Groups(0, bounds.ctypes.data, bounds.ctypes.data + 8, 1)
    size = _dots_floats(matrix, n)
    with lock:
        _dots(matrix, groups, n, x, out, scratch(size), precision)


def experts_in_dots(
    gate_up: Matrices,
    down: Matrices,
    limit: float,
    precision: Precision,
    groups: Groups,
    x: Rows,
    n: int,
    out: Rows,
    factors: int,
) -> None:
    """out = (down swiglu(gate_up x + bias) + bias) * factors, for those of n vectors that belong to a group."""
    hidden_size = -(-n * down.n_in // _PAGE) * _PAGE
    with lock:
        hidden = scratch(hidden_size + max(_dots_floats(gate_up, n), _dots_floats(down, n)))
        memory = hidden + 4 * hidden_size
        _dots(gate_up, groups, n, x, Rows(hidden), memory, precision, swiglu_limit=limit)
        _dots(down, groups, n, Rows(hidden), out, memory, precision, factors=factors)


def _dots_floats(matrices: Matrices, n: int) -> int:
    """The memory that n vectors and the threads need."""
    each = n * dot_kernels.vector_floats(matrices.format, matrices.n_in)
    return dot_kernels.scratch_floats(threads()) + each * (threads() if n <= _FEW else 1)


def _dots(
    matrices: Matrices,
    groups: Groups,
    n: int,
    x: Rows,
    out: Rows,
    own: int,
    precision: Precision,
    *,
    factors: int = 0,
    swiglu_limit: float | None = None,
) -> None:
    """own: memory for the threads and, behind it, for the vectors; on a page boundary."""
    vectors = own + 4 * dot_kernels.scratch_floats(threads())
    job = dots_job(matrices, groups, x, out, vectors, own, factors=factors, swiglu_limit=swiglu_limit)
    job = job._replace(order=order_of(matrices, precision))
    each = n <= _FEW
    if each:
        job = job._replace(vectors_each=4 * n * dot_kernels.vector_floats(matrices.format, matrices.n_in))
    else:
        launch(dot_kernels.spread, job, 4 * n * matrices.n_in)
    launch(dot_kernels.dots, job, n * matrices.n_in * matrices.n_out, cut=not each)


def dots_job(
    matrices: Matrices,
    groups: Groups,
    x: Rows,
    out: Rows,
    vectors: int,
    own: int,
    *,
    factors: int = 0,
    addends: int = 0,
    swiglu_limit: float | None = None,
) -> Dots:
    """The job of `dot_kernels.spread` and, after it, of `dot_kernels.dots`.

    vectors: memory for the vectors in spread order. own: memory for the threads.
    """
    return Dots(
        *matrices,
        *groups,
        *x,
        *out,
        factors=factors,
        addends=addends,
        swiglu=swiglu_limit is not None,
        limit=swiglu_limit or 0.0,
        order=matrices.format,
        vectors=vectors,
        vectors_each=0,
        scratch=own,
    )
