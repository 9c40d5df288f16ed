"""Matrix times matrix, for many vectors: a vector lies in each lane, and weights are decoded once for all of them.

Vectors are packed into panels of LANES vectors: [panel][word][lane]. A word is one element, in spread order (see
`formats`), or a pair of elements in bfloat16. Weights are decoded, some rows and words at a time, into a buffer that
stays in the L1 cache; each is multiplied with two panels, and the sums stay in registers. (Goto and van de Geijn,
"Anatomy of High-Performance Matrix Multiplication", 2008.)
"""

from typing import NamedTuple

import numpy as np

from gptoss_lab.ops.compile import Kernel, device, inner_loop, job_reader, takes_seconds
from gptoss_lab.ops.decoding import make_decode
from gptoss_lab.ops.formats import (
    BFLOAT16,
    FLOAT32,
    INT8,
    MXFP4,
    PAIRS,
    SCALES,
    STEP,
    are_last,
    place,
    row_bytes,
    scale_bytes,
)
from gptoss_lab.ops.simd import (
    add_outer,
    add_outer_of_pairs,
    add_to,
    gather_columns,
    gather_pairs,
    get_float,
    get_int,
    load,
    load_tile,
    pairs_of,
    scatter_columns,
    set_float,
    set_int,
    splat,
    splat_tile,
    store,
    zeros,
)
from gptoss_lab.ops.swiglu import swiglu
from gptoss_lab.ops.target import INSTRUCTION_SET, LANES

VECTOR = 4 * LANES
"""Bytes of one element of a panel."""
CHUNK = 96
"""Rows of weights that are finished together."""

_ROWS = 12 if INSTRUCTION_SET == "avx512" else 6  # rows whose sums are in registers together, for two panels

_WORDS = 288  # words of a row that are decoded at a time, about
_DECODED = _ROWS * 4 * (_WORDS + 8 * LANES)
_ENDS = _ROWS * (STEP + SCALES)
_LISTS = 8 * LANES + 8 * 8 * LANES


class Packing(NamedTuple):
    """Puts rows of x into panels; the last row fills the last panel."""

    x: int  # rows of n float32
    sources: int  # int64: which rows of x; or 0: all in order
    n_vectors: int
    n: int
    order: int  # of the elements: PAIRS, or spread for weights of this format
    panels: int
    scratch: int


class Product(NamedTuple):
    """The product of a matrix [n_out, n_in] and the vectors in panels."""

    format: int
    weights: int
    scales: int  # of MXFP4
    bias: int  # [n_out], or 0
    n_out: int
    n_in: int
    order: int  # of the elements in the panels: PAIRS, or spread for weights of this format
    panels: int
    n_vectors: int
    out: int  # [.., n_out], rows of float32
    out_order: int  # or, where not 0, panels of that order: rows of the result are pairs of gate and up
    limit: float  # SwiGLU's
    targets: int  # int64: the row of `out` for each vector; or 0: in order
    factors: int  # float32, by row of `out`; or 0
    scratch: int


_read_packing, _read_product = job_reader(Packing), job_reader(Product)


def n_panels(n_vectors: int) -> int:
    return -(-n_vectors // LANES)


def panel_floats(order: int, n: int, n_vectors: int) -> int:
    """The memory that panels take."""
    return n_panels(n_vectors) * LANES * _length(order, n)


def scratch_floats(n_vectors: int, n_threads: int) -> int:
    """The memory that `pack` and `multiply` need besides."""
    return n_threads * (_own_bytes(n_panels(n_vectors)) // 4)


def _own_bytes(n_panels):
    return (n_panels * CHUNK * VECTOR + _DECODED + _ENDS + _LISTS + 4095) // 4096 * 4096 + 128


def _length(order, n):
    """Words of a vector of n elements, with zeros to whole words of weights."""
    return (n + 1) // 2 if order == PAIRS else (n + order - 1) // order * order


_own_bytes_in_kernel, _length_in_kernel = device(_own_bytes), device(_length)


@Kernel
def pack(thread, share, n_shares, address):
    job = _read_packing(address)
    panels = (job.n_vectors + LANES - 1) // LANES
    rows = job.scratch + thread * _own_bytes_in_kernel(panels)
    places = rows + 8 * LANES
    length = _length_in_kernel(job.order, job.n)
    if job.order != PAIRS:
        for i in range(job.order * LANES):
            set_int(places + 8 * i, VECTOR * _place(job.order, job.order * LANES, i))
    for panel in range(panels * share // n_shares, panels * (share + 1) // n_shares):
        for lane in range(LANES):
            vector = min(panel * LANES + lane, job.n_vectors - 1)
            set_int(rows + 8 * lane, job.x + 4 * job.n * (get_int(job.sources + 8 * vector) if job.sources else vector))
        to = job.panels + panel * length * VECTOR
        if job.order == PAIRS:
            _pack_pairs(rows, job.n, places, to)
        else:
            _pack_spread(rows, job.n, job.order, places, to)


@device
def _pack_spread(rows, n, format, places, to):
    step = format * LANES
    whole = n // step * step
    for first in range(0, whole, step):
        for i in range(0, step, LANES):
            gather_columns(rows, 4 * (first + i), to + first * VECTOR, places + 8 * i)
    for i in range(whole, _length_in_kernel(format, n)):
        _take(rows, n, i, to + VECTOR * _place(format, n, i))


@device
def _pack_pairs(rows, n, two_vectors, to):
    whole = n // (2 * LANES) * (2 * LANES)
    for i in range(0, whole, 2 * LANES):
        gather_pairs(rows, 4 * i, to + i // 2 * VECTOR)
    for i in range(whole, n, 2):
        _take(rows, n, i, two_vectors)
        _take(rows, n, i + 1, two_vectors + VECTOR)
        store(to + i // 2 * VECTOR, pairs_of(load(two_vectors), load(two_vectors + VECTOR)))


@device
def _take(rows, n, i, to):
    """Element i of each row, or 0 where they have no more than n."""
    for lane in range(LANES):
        set_float(to + 4 * lane, get_float(get_int(rows + 8 * lane) + 4 * i) if i < n else np.float32(0))


@device
def _place(format, n, i):
    """Where element i of n stands in spread order."""
    step = format * LANES
    first = i // step * step
    width = LANES if first + step <= n else (n - first + format - 1) // format
    return first + place(format, width, i - first)


@takes_seconds(8)
@Kernel
def multiply(thread, share, n_shares, address):
    job = _read_product(address)
    n_chunks = (job.n_out + CHUNK - 1) // CHUNK
    panels = (job.n_vectors + LANES - 1) // LANES
    own = job.scratch + thread * _own_bytes_in_kernel(panels)
    sums, decoded = own, own + panels * CHUNK * VECTOR
    ends, rows = decoded + _DECODED, decoded + _DECODED + _ENDS
    for chunk in range(n_chunks * share // n_shares, n_chunks * (share + 1) // n_shares):
        for i in range(panels * CHUNK):
            store(sums + i * VECTOR, splat(0.0))
        _add_chunk(job, chunk * CHUNK, panels, sums, decoded, ends)
        for panel in range(panels):
            at = sums + panel * CHUNK * VECTOR
            _add_bias(job, chunk * CHUNK, at)
            if job.out_order:
                _finish_swiglu(job, chunk * CHUNK, panel, at)
            else:
                _finish(job, chunk * CHUNK, panel, at, rows)


@device
def _add_chunk(job, row, panels, sums, decoded, ends):
    """Adds the products of up to CHUNK rows of weights to sums [panel][row][lane]."""
    n_rows = min(CHUNK, job.n_out - row)
    bytes_a_row, scale_bytes_a_row = row_bytes(job.format, job.n_in), scale_bytes(job.format, job.n_in)
    length = _length_in_kernel(job.order, job.n_in)
    step = (job.format // 2 if job.order == PAIRS else job.format) * LANES
    n_steps = max(1, _WORDS // step)
    for word in range(0, length, n_steps * step):
        n = min(n_steps * step, length - word)
        for r in range(0, n_rows, _ROWS):
            weights = job.weights + (row + r) * bytes_a_row
            scales = job.scales + (row + r) * scale_bytes_a_row
            k = min(_ROWS, n_rows - r)
            last = are_last(row + r + k, job.n_out, bytes_a_row)
            if job.order == PAIRS:
                if job.format == MXFP4:
                    _pairs_of_mxfp4(
                        weights, bytes_a_row, scales, scale_bytes_a_row, k, last, word // step, n, decoded, ends
                    )
                elif job.format == INT8:
                    _pairs_of_int8(
                        weights, bytes_a_row, scales, scale_bytes_a_row, k, last, word // step, n, decoded, ends
                    )
                else:
                    _pairs_of_bfloat16(weights, bytes_a_row, 0, 0, k, last, word // step, n, decoded, ends)
            elif job.format == MXFP4:
                _decode_mxfp4(weights, bytes_a_row, scales, scale_bytes_a_row, k, last, word // step, n, decoded, ends)
            elif job.format == INT8:
                _decode_int8(weights, bytes_a_row, scales, scale_bytes_a_row, k, last, word // step, n, decoded, ends)
            elif job.format == BFLOAT16:
                _decode_bfloat16(weights, bytes_a_row, 0, 0, k, last, word // step, n, decoded, ends)
            else:
                _decode_float32(weights, bytes_a_row, 0, 0, k, last, word // step, n, decoded, ends)
            x = job.panels + word * VECTOR
            for panel in range(0, panels - 1, 2):
                to = sums + (panel * CHUNK + r) * VECTOR
                if job.order == PAIRS:
                    _multiply_two_pairs(decoded, x + panel * length * VECTOR, length * VECTOR, n, to)
                else:
                    _multiply_two(decoded, x + panel * length * VECTOR, length * VECTOR, n, to)
            if panels % 2:
                x, to = x + (panels - 1) * length * VECTOR, sums + ((panels - 1) * CHUNK + r) * VECTOR
                if job.order == PAIRS:
                    _multiply_one_pairs(decoded, x, length * VECTOR, n, to)
                else:
                    _multiply_one(decoded, x, length * VECTOR, n, to)


_DECODED_ROW = _DECODED // _ROWS


_decode_mxfp4, _decode_int8, _decode_bfloat16, _decode_float32 = (
    make_decode(format, False, _ROWS, _DECODED_ROW) for format in (MXFP4, INT8, BFLOAT16, FLOAT32)
)


def _make_multiply(n_columns, pairs):
    n_sums = _ROWS * n_columns
    add = add_outer_of_pairs if pairs else add_outer

    @inner_loop
    def multiply(weights, x, panel_stride, n, sums):
        """Adds the products of n words to each of the sums [_ROWS][n_columns]."""
        totals = zeros(n_sums)
        for i in range(n):
            totals = add(
                totals,
                splat_tile(weights + 4 * i, _DECODED_ROW, _ROWS),
                load_tile(x + i * VECTOR, panel_stride, n_columns),
            )
        add_to(sums, VECTOR, CHUNK * VECTOR, totals, n_columns)

    return multiply


_multiply_one, _multiply_two = _make_multiply(1, False), _make_multiply(2, False)

_pairs_of_mxfp4, _pairs_of_int8, _pairs_of_bfloat16 = (
    make_decode(format, True, _ROWS, _DECODED_ROW) for format in (MXFP4, INT8, BFLOAT16)
)
_multiply_one_pairs, _multiply_two_pairs = _make_multiply(1, True), _make_multiply(2, True)


@device
def _add_bias(job, row, sums):
    if job.bias:
        for i in range(min(CHUNK, job.n_out - row)):
            store(sums + i * VECTOR, load(sums + i * VECTOR) + splat(get_float(job.bias + 4 * (row + i))))


@device
def _finish_swiglu(job, row, panel, sums):
    n = job.n_out // 2
    first, end = row // 2, min(row + CHUNK, job.n_out) // 2
    length = _length_in_kernel(job.out_order, n)
    to = job.out + panel * length * VECTOR
    for i in range(end - first):  # over the sums that they are made of
        gate, up = load(sums + 2 * i * VECTOR), load(sums + (2 * i + 1) * VECTOR)
        store(sums + i * VECTOR, swiglu(gate, up, splat(job.limit)))
    if job.out_order == PAIRS:
        store(sums + (end - first) * VECTOR, splat(0.0))
        for i in range(0, end - first, 2):
            store(to + (first + i) // 2 * VECTOR, pairs_of(load(sums + i * VECTOR), load(sums + (i + 1) * VECTOR)))
    else:
        for i in range(end - first):
            store(to + VECTOR * _place(job.out_order, n, first + i), load(sums + i * VECTOR))
        if end == n:
            for i in range(n, length):
                store(to + VECTOR * _place(job.out_order, n, i), splat(0.0))


@device
def _finish(job, row, panel, sums, rows):
    """Rows of sums times each lane's factor, to rows of `out`."""
    n_rows = min(CHUNK, job.n_out - row)
    for lane in range(LANES):
        vector = min(panel * LANES + lane, job.n_vectors - 1)
        target = get_int(job.targets + 8 * vector) if job.targets else vector
        set_int(rows + 8 * lane, job.out + 4 * target * job.n_out)
        if job.factors:
            set_float(rows + 8 * LANES + 4 * lane, get_float(job.factors + 4 * target))
    if job.factors:
        factors = load(rows + 8 * LANES)
        for i in range(n_rows):
            store(sums + i * VECTOR, load(sums + i * VECTOR) * factors)
    whole = n_rows // LANES * LANES
    for first in range(0, whole, LANES):
        scatter_columns(sums + first * VECTOR, VECTOR, rows, 4 * (row + first))
    for i in range(whole, n_rows):
        for lane in range(LANES):
            set_float(get_int(rows + 8 * lane) + 4 * (row + i), get_float(sums + i * VECTOR + 4 * lane))
