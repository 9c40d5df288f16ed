"""Matrix times matrix, for many vectors: a vector lies in each lane, and weights are decoded once for all of them.

Vectors are packed into panels of LANES vectors: [panel][element][lane], elements in spread order (see `formats`).
Weights are decoded, some rows and elements at a time, into a buffer that stays in the L1 cache; each is multiplied with
two panels, and the sums stay in registers. (Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication",
2008.)
"""

from typing import NamedTuple

from gptoss_lab.ops.compile import Kernel, device, inner_loop, job_reader
from gptoss_lab.ops.formats import (
    BFLOAT16,
    FLOAT32,
    MXFP4,
    SCALES,
    STEP,
    are_last,
    copy_ends,
    load_scales,
    load_words,
    place,
    row_bytes,
    scale_bytes,
    store_weights,
)
from gptoss_lab.ops.simd import (
    add_outer,
    add_to,
    gather_columns,
    get_float,
    get_int,
    load,
    load_tile,
    prefetch,
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

_ELEMENTS = 288  # elements of a row that are decoded at a time, about
_DECODED = _ROWS * 4 * (_ELEMENTS + 8 * LANES)
_ENDS = _ROWS * (STEP + SCALES)
_LISTS = 8 * LANES + 8 * 8 * LANES


class Packing(NamedTuple):
    """Puts rows of x into panels; the last row fills the last panel."""

    x: int  # rows of n float32
    sources: int  # int64: which rows of x; or 0: all in order
    n_vectors: int
    n: int
    format: int  # of the weights that the panels are to meet
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
    panels: int
    n_vectors: int
    out: int  # [.., n_out], rows of float32
    out_format: int  # or, where not 0, panels for weights of that format: rows of the result are pairs of gate and up
    limit: float  # SwiGLU's
    targets: int  # int64: the row of `out` for each vector; or 0: in order
    factors: int  # float32, by row of `out`; or 0
    scratch: int


_read_packing, _read_product = job_reader(Packing), job_reader(Product)


def n_panels(n_vectors: int) -> int:
    return -(-n_vectors // LANES)


def panel_floats(format: int, n: int, n_vectors: int) -> int:
    """The memory that panels take."""
    return n_panels(n_vectors) * LANES * (-(-n // format) * format)


def scratch_floats(n_vectors: int, n_threads: int) -> int:
    """The memory that `pack` and `multiply` need besides."""
    return n_threads * (_own_bytes(n_panels(n_vectors)) // 4)


def _own_bytes(n_panels):
    return (n_panels * CHUNK * VECTOR + _DECODED + _ENDS + _LISTS + 4095) // 4096 * 4096 + 128


_own_bytes_in_kernel = device(_own_bytes)


@Kernel
def pack(thread, n_threads, address):
    job = _read_packing(address)
    panels = (job.n_vectors + LANES - 1) // LANES
    rows = job.scratch + thread * _own_bytes_in_kernel(panels)
    places = rows + 8 * LANES
    length = _length(job.format, job.n)
    for i in range(job.format * LANES):
        set_int(places + 8 * i, VECTOR * _place(job.format, job.format * LANES, i))
    for panel in range(panels * thread // n_threads, panels * (thread + 1) // n_threads):
        for lane in range(LANES):
            vector = min(panel * LANES + lane, job.n_vectors - 1)
            set_int(rows + 8 * lane, job.x + 4 * job.n * (get_int(job.sources + 8 * vector) if job.sources else vector))
        to = job.panels + panel * length * VECTOR
        step = job.format * LANES
        whole = job.n // step * step
        for first in range(0, whole, step):
            for i in range(0, step, LANES):
                gather_columns(rows, 4 * (first + i), to + first * VECTOR, places + 8 * i)
        for i in range(whole, length):
            place = to + VECTOR * _place(job.format, job.n, i)
            for lane in range(LANES):
                set_float(place + 4 * lane, get_float(get_int(rows + 8 * lane) + 4 * i) if i < job.n else 0.0)


@device
def _length(format, n):
    """Elements of a vector, with zeros to whole words."""
    return (n + format - 1) // format * format


@device
def _place(format, n, i):
    """Where element i of n stands in spread order."""
    step = format * LANES
    first = i // step * step
    width = LANES if first + step <= n else (n - first + format - 1) // format
    return first + place(format, width, i - first)


@Kernel
def multiply(thread, n_threads, address):
    job = _read_product(address)
    n_chunks = (job.n_out + CHUNK - 1) // CHUNK
    panels = (job.n_vectors + LANES - 1) // LANES
    own = job.scratch + thread * _own_bytes_in_kernel(panels)
    sums, decoded = own, own + panels * CHUNK * VECTOR
    ends, rows = decoded + _DECODED, decoded + _DECODED + _ENDS
    for chunk in range(n_chunks * thread // n_threads, n_chunks * (thread + 1) // n_threads):
        for i in range(panels * CHUNK):
            store(sums + i * VECTOR, splat(0.0))
        _add_chunk(job, chunk * CHUNK, panels, sums, decoded, ends)
        for panel in range(panels):
            at = sums + panel * CHUNK * VECTOR
            _add_bias(job, chunk * CHUNK, at)
            if job.out_format:
                _finish_swiglu(job, chunk * CHUNK, panel, at)
            else:
                _finish(job, chunk * CHUNK, panel, at, rows)


@device
def _add_chunk(job, row, panels, sums, decoded, ends):
    """Adds the products of up to CHUNK rows of weights to sums [panel][row][lane]."""
    n_rows = min(CHUNK, job.n_out - row)
    bytes_a_row, scale_bytes_a_row = row_bytes(job.format, job.n_in), scale_bytes(job.format, job.n_in)
    length = _length(job.format, job.n_in)
    step = job.format * LANES
    n_steps = max(1, _ELEMENTS // step)
    for element in range(0, length, n_steps * step):
        n = min(n_steps * step, length - element)
        for r in range(0, n_rows, _ROWS):
            weights = job.weights + (row + r) * bytes_a_row
            scales = job.scales + (row + r) * scale_bytes_a_row
            k = min(_ROWS, n_rows - r)
            last = are_last(row + r + k, job.n_out, bytes_a_row)
            if job.format == MXFP4:
                _decode_mxfp4(
                    weights, bytes_a_row, scales, scale_bytes_a_row, k, last, element // step, n, decoded, ends
                )
            elif job.format == BFLOAT16:
                _decode_bfloat16(weights, bytes_a_row, 0, 0, k, last, element // step, n, decoded, ends)
            else:
                _decode_float32(weights, bytes_a_row, 0, 0, k, last, element // step, n, decoded, ends)
            panel = 0
            while panel + 2 <= panels:
                x = job.panels + (panel * length + element) * VECTOR
                _multiply_two(decoded, x, length * VECTOR, n, sums + (panel * CHUNK + r) * VECTOR)
                panel += 2
            if panel < panels:
                x = job.panels + (panel * length + element) * VECTOR
                _multiply_one(decoded, x, length * VECTOR, n, sums + (panel * CHUNK + r) * VECTOR)


_DECODED_ROW = _DECODED // _ROWS


def _make_decode(format):
    @device
    def decode_step(weights, scales, width, to):
        words = load_words(weights, 0, 1)
        if format == MXFP4:
            store_weights(to, width, words, load_scales(scales, 0, 1), format)
        else:
            store_weights(to, width, words, zeros(1), format)

    @inner_loop
    def decode(weights, bytes_a_row, scales, scale_bytes_a_row, n_rows, last, first_step, n, to, ends):
        """n elements of each of n_rows rows as float32."""
        whole = n // (format * LANES)
        width = n % (format * LANES) // format
        if width and last:
            copy_ends(weights, bytes_a_row, STEP, n_rows, ends)
            copy_ends(scales, scale_bytes_a_row, SCALES, n_rows, ends + _ROWS * STEP)
        for row in range(n_rows):
            w = weights + row * bytes_a_row + first_step * STEP
            s = scales + row * scale_bytes_a_row + first_step * SCALES
            target = to + row * _DECODED_ROW
            for line in range(0, n * 4 // format, 64):
                prefetch(w + _ROWS * bytes_a_row + line)
            for i in range(whole):
                decode_step(w + i * STEP, s + i * SCALES, LANES, target + i * format * VECTOR)
            if width:
                w, s = w + whole * STEP, s + whole * SCALES
                if last:
                    w, s = ends + row * STEP, ends + _ROWS * STEP + row * SCALES
                decode_step(w, s, width, target + whole * format * VECTOR)

    return decode


_decode_mxfp4, _decode_bfloat16, _decode_float32 = _make_decode(MXFP4), _make_decode(BFLOAT16), _make_decode(FLOAT32)


def _make_multiply(n_columns):
    n_sums = _ROWS * n_columns

    @inner_loop
    def multiply(weights, x, panel_stride, n, sums):
        """Adds n products to each of the sums [_ROWS][n_columns]."""
        totals = zeros(n_sums)
        for i in range(n):
            totals = add_outer(
                totals,
                splat_tile(weights + 4 * i, _DECODED_ROW, _ROWS),
                load_tile(x + i * VECTOR, panel_stride, n_columns),
            )
        add_to(sums, VECTOR, CHUNK * VECTOR, totals, n_columns)

    return multiply


_multiply_one, _multiply_two = _make_multiply(1), _make_multiply(2)


@device
def _add_bias(job, row, sums):
    if job.bias:
        for i in range(min(CHUNK, job.n_out - row)):
            store(sums + i * VECTOR, load(sums + i * VECTOR) + splat(get_float(job.bias + 4 * (row + i))))


@device
def _finish_swiglu(job, row, panel, sums):
    n = job.n_out // 2
    to = job.out + panel * _length(job.out_format, n) * VECTOR
    for i in range(min(CHUNK, job.n_out - row) // 2):
        act = swiglu(load(sums + 2 * i * VECTOR), load(sums + (2 * i + 1) * VECTOR), splat(job.limit))
        store(to + VECTOR * _place(job.out_format, n, row // 2 + i), act)
    if row + CHUNK >= job.n_out:
        for i in range(n, _length(job.out_format, n)):
            store(to + VECTOR * _place(job.out_format, n, i), splat(0.0))


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
