"""Attention with grouped queries, a sink in every head and, where wanted, a window; scores never stand in memory as a
whole.

A query lies in each lane; or in two neighbours, for even and odd dimensions, where half of the lanes would stay empty.
A block of queries is taken from all the heads that share a key-value head, so each key and value is read once for
them; the softmax is kept up as keys come (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018;
Dao et al., "FlashAttention", 2022). Where there are fewer blocks than threads the keys are split too, and what the
splits found is merged.

Sequences that share a prefix can attend to it together, as one block of queries, and each to its own keys apart; what
both found is blended. (Juravsky et al., "Hydragen", arXiv 2402.05099, section 3.1.)
"""

from typing import NamedTuple

import numpy as np

from gptoss_lab.ops.compile import Kernel, device, inner_loop, job_reader, takes_seconds
from gptoss_lab.ops.place import read_place
from gptoss_lab.ops.simd import (
    add_outer,
    add_to,
    exp,
    gather_columns,
    get_float,
    get_int,
    load,
    load_ints,
    load_tile,
    maximum,
    only_between,
    prefetch,
    scatter_columns,
    set_float,
    set_int,
    set_int32,
    splat,
    splat_pairs,
    splat_tile,
    store,
    swap_neighbours,
    zeros,
)
from gptoss_lab.ops.target import INSTRUCTION_SET, LANES

VECTOR = 4 * LANES

_WIDTH = 2  # vectors of queries in a block
_LANES_OF_FEW = 2 if INSTRUCTION_SET == "avx512" else 1  # lanes that a query takes, where queries are few
_SUMS = 16 if INSTRUCTION_SET == "avx512" else 8  # vectors of sums that are in registers together
_LEAST_MASS = 1e-37  # of no keys at all, or of keys that the sink leaves nothing
_KEYS = 32  # keys whose scores are in the L1 cache together


class Attention(NamedTuple):
    """z [batch, pos, head, d_head] for queries of that shape, over keys and values in pieces
    (`gptoss_lab.ops.Context`).
    """

    q: int
    z: int
    batch: int
    pos: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    scale: float
    sinks: int
    window: int
    place: int  # `gptoss_lab.ops.place.Place`
    piece_length: int
    key_offset: int
    value_offset: int
    first_key: int  # those before it are not looked at, nor those ...
    end_key: int  # ... from here on
    sink: int  # 1: it is counted
    logs: int  # float32 [batch, pos, head]: for each query the logarithm of its mass, for `blend`; or 0
    n_splits: int
    partial: int  # for each block and split: its softmax and z, see `_Block`
    scratch: int


class Blend(NamedTuple):
    """What attention found over two ranges of keys, together, for n queries (of each head)."""

    z: int  # [n, d_head], over one range; and the result
    other: int  # the same over the other range
    logs: int  # [n]: the logarithm of the mass that z belongs to
    other_logs: int
    n: int
    d_head: int


_read, _read_blend = job_reader(Attention), job_reader(Blend)


def n_blocks(batch: int, pos: int, n_heads: int, n_kv_heads: int) -> int:
    """Blocks of queries."""
    return batch * n_kv_heads * -(-pos * (n_heads // n_kv_heads) // (_WIDTH * LANES))


def partial_floats(d_head: int) -> int:
    """The memory that one block needs in one split."""
    return (d_head + 2) * _WIDTH * LANES


def scratch_floats(d_head: int, n_threads: int) -> int:
    """The scratch memory that threads need."""
    return n_threads * _own_bytes(d_head) // 4


_ROW = _WIDTH * VECTOR  # bytes of what belongs to one key, or one dimension, for all queries of a block


def _own_bytes(d_head):
    return ((d_head + _KEYS + 4) * _ROW + 8 * (_WIDTH + 1) * LANES + 4095) // 4096 * 4096 + 128


_own_bytes_in_kernel = device(_own_bytes)


class _Block(NamedTuple):
    """Queries of one sequence that share a key-value head, and a thread's memory for them. What is [..][query] has
    _WIDTH * LANES of them, one in each lane. Of few queries there is one vector, and each may be in two neighbouring
    lanes: one has the even dimensions and the other the odd ones, and there are half as many rows where it says d_head.
    """

    sequence: int
    kv_head: int
    first: int  # queries are counted through positions and, within these, heads that share a key-value head
    n: int
    each: int  # lanes that a query takes
    width: int  # vectors that are in use
    queries: int  # [d_head][query], scaled
    scores: int  # [_KEYS][query]
    first_key: int  # int32 [query]
    last_key: int  # int32 [query]
    rows: int  # int64 [query]: where each query's row, or the lane's part of it, begins in q or z
    places: int  # int64 [LANES]: multiples of _ROW
    largest: int  # [query]: the largest score so far
    mass: int  # [query]: the sum of exp(score - largest), the sink among them
    z: int  # [d_head][query]: the sum of exp(score - largest) * value


@device
def _block(job, item, split, own, may_be_few):
    group = job.n_heads // job.n_kv_heads
    sequence, kv_head = item % job.batch, item // job.batch % job.n_kv_heads
    first = item // job.batch // job.n_kv_heads * _WIDTH * LANES
    scores = own + job.d_head * _ROW
    lists = scores + _KEYS * _ROW
    n = min(_WIDTH * LANES, job.pos * group - first)
    partial = job.partial + (item * job.n_splits + split) * (job.d_head + 2) * _ROW
    few = may_be_few and n * _LANES_OF_FEW <= LANES
    return _Block(
        sequence,
        kv_head,
        first,
        n,
        _LANES_OF_FEW if few else 1,
        1 if few else _WIDTH,
        own,
        scores,
        lists,
        lists + _ROW,
        lists + 2 * _ROW,
        lists + 4 * _ROW,
        partial,
        partial + _ROW,
        partial + 2 * _ROW,
    )


@takes_seconds(5)
@Kernel
def attend(thread, share, n_shares, address):
    """Every block in every split; finished, where there is one split."""
    job = _read(address)
    place = read_place(job.place)
    own = job.scratch + thread * _own_bytes_in_kernel(job.d_head)
    n_items = _n_items(job)
    for task in range(share, n_items * job.n_splits, n_shares):  # in turn: later blocks see more keys
        item, split = task // job.n_splits, task % job.n_splits
        block = _block(job, item, split, own, True)
        _describe(job, place, block)
        _gather(job, block)
        _begin_softmax(job, block, split)
        group = job.n_heads // job.n_kv_heads
        first_position = place.start + block.first // group
        last_position = place.start + (block.first + block.n - 1) // group
        first, end = max(job.first_key, first_position - job.window + 1), min(last_position + 1, job.end_key)
        n = max(end - first, 0)
        first, end = first + n * split // job.n_splits, first + n * (split + 1) // job.n_splits
        # Some query of the block may not see all of these keys.
        hidden = end > first_position + 1 or first < last_position - job.window + 1
        if block.width == 1:
            _attend_few(job, place, block, first, end, hidden)
        else:
            _attend_many(job, place, block, first, end, hidden)
        if job.n_splits == 1:
            _finish(job, block)


@device
def _n_items(job):
    group = job.n_heads // job.n_kv_heads
    return job.batch * job.n_kv_heads * ((job.pos * group + _WIDTH * LANES - 1) // (_WIDTH * LANES))


@Kernel
def merge(thread, share, n_shares, address):
    """After `attend`: what the splits of each block found, together."""
    job = _read(address)
    place = read_place(job.place)
    own = job.scratch + thread * _own_bytes_in_kernel(job.d_head)
    for item in range(share, _n_items(job), n_shares):
        block = _block(job, item, 0, own, True)
        for split in range(1, job.n_splits):
            _merge_into(job, block, _block(job, item, split, own, True))
        _describe(job, place, block)
        _finish(job, block)


@Kernel
def blend(thread, share, n_shares, address):
    """After `attend` over one range of keys, and over another."""
    job = _read_blend(address)
    for query in range(job.n * share // n_shares, job.n * (share + 1) // n_shares):
        ours, theirs = get_float(job.logs + 4 * query), get_float(job.other_logs + 4 * query)
        ours_of_both = np.float32(1.0 / (1.0 + np.exp(np.float64(theirs) - np.float64(ours))))
        for i in range(4 * query * job.d_head, 4 * (query + 1) * job.d_head, 4):
            other = get_float(job.other + i)
            set_float(job.z + i, other + ours_of_both * (get_float(job.z + i) - other))


@Kernel
def look(thread, share, n_shares, address):
    """After `attend`, which has left the logs: writes the attention pattern [batch, head, pos, end_key] to `z`, where
    there are zeros.
    """
    job = _read(address)
    place = read_place(job.place)
    group = job.n_heads // job.n_kv_heads
    own = job.scratch + thread * _own_bytes_in_kernel(job.d_head)
    for item in range(share, _n_items(job), n_shares):
        block = _block(job, item, 0, own, False)
        _describe(job, place, block)
        _gather(job, block)
        for lane in range(_WIDTH * LANES):
            set_float(block.largest + 4 * lane, get_float(job.logs + get_int(block.rows + 8 * lane) // job.d_head))
            query = block.first + min(lane, block.n - 1)
            row = (block.sequence * job.n_heads + block.kv_head * group + query % group) * job.pos + query // group
            set_int(block.rows + 8 * lane, 4 * row * job.end_key)
        first = max(0, place.start + block.first // group - job.window + 1)
        _look(job, place, block, first, place.start + (block.first + block.n - 1) // group + 1)


@device
def _merge_into(job, block, other):
    for i in range(0, block.width * VECTOR, VECTOR):
        largest = maximum(load(block.largest + i), load(other.largest + i))
        ours, theirs = exp(load(block.largest + i) - largest), exp(load(other.largest + i) - largest)
        store(block.largest + i, largest)
        store(block.mass + i, load(block.mass + i) * ours + load(other.mass + i) * theirs)
        for at in range(i, job.d_head // block.each * _ROW, _ROW):
            store(block.z + at, load(block.z + at) * ours + load(other.z + at) * theirs)


@device
def _describe(job, place, block):
    """Where each query is and what it may see; the last one stands in for those that are missing."""
    group = job.n_heads // job.n_kv_heads
    for lane in range(block.width * LANES):
        query = block.first + min(lane // block.each, block.n - 1)
        position = query // group
        row = (block.sequence * job.pos + position) * job.n_heads + block.kv_head * group + query % group
        set_int(block.rows + 8 * lane, 4 * (row * job.d_head + lane % block.each))
        set_int32(block.first_key + 4 * lane, place.start + position - job.window + 1)
        set_int32(block.last_key + 4 * lane, place.start + position)
    for i in range(LANES):
        set_int(block.places + 8 * i, i * _ROW)


@device
def _gather(job, block):
    """Queries, scaled, each in its lanes."""
    for vector in range(block.width):
        rows, to = block.rows + 8 * vector * LANES, block.queries + vector * VECTOR
        if block.each == 2:
            for lane in range(0, LANES, 2):
                _copy_pairs(job.q + get_int(rows + 8 * lane), 8, to + 4 * lane, _ROW, job.d_head // 2)
        else:
            whole = job.d_head // LANES * LANES
            for d in range(0, whole, LANES):
                gather_columns(rows, job.q + 4 * d, to + d * _ROW, block.places)
            for d in range(whole, job.d_head):
                for lane in range(LANES):
                    set_float(to + d * _ROW + 4 * lane, get_float(job.q + get_int(rows + 8 * lane) + 4 * d))
        for at in range(to, to + job.d_head // block.each * _ROW, _ROW):
            store(at, load(at) * splat(job.scale))


@device
def _copy_pairs(source, stride, to, to_stride, n):
    """n times two neighbouring floats."""
    for i in range(n):
        set_int(to + i * to_stride, get_int(source + i * stride))


@device
def _begin_softmax(job, block, split):
    """The sink is the first of the scores; the first split counts it."""
    group = job.n_heads // job.n_kv_heads
    for lane in range(block.width * LANES):
        head = block.kv_head * group + (block.first + min(lane // block.each, block.n - 1)) % group
        set_float(block.largest + 4 * lane, get_float(job.sinks + 4 * head))
        set_float(block.mass + 4 * lane, 1.0 if split == 0 and job.sink else 0.0)
    for i in range(0, block.width * VECTOR, VECTOR):
        for at in range(i, job.d_head // block.each * _ROW, _ROW):
            store(block.z + at, splat(0.0))


@device
def _finish(job, block):
    for i in range(0, block.width * VECTOR, VECTOR):
        share = splat(1.0) / maximum(load(block.mass + i), splat(_LEAST_MASS))
        for at in range(i, job.d_head // block.each * _ROW, _ROW):
            store(block.z + at, load(block.z + at) * share)
    if job.logs:
        for lane in range(0, block.n * block.each, block.each):
            mass = max(get_float(block.mass + 4 * lane), np.float32(_LEAST_MASS))
            row = get_int(block.rows + 8 * lane) // job.d_head  # bytes of one number instead of d_head
            set_float(job.logs + row, get_float(block.largest + 4 * lane) + np.float32(np.log(np.float64(mass))))
    for vector in range((block.n * block.each + LANES - 1) // LANES):
        rows, source = block.rows + 8 * vector * LANES, block.z + vector * VECTOR
        if block.each == 2:
            for lane in range(0, LANES, 2):
                _copy_pairs(source + 4 * lane, _ROW, job.z + get_int(rows + 8 * lane), 8, job.d_head // 2)
        else:
            whole = job.d_head // LANES * LANES
            for d in range(0, whole, LANES):
                scatter_columns(source + d * _ROW, _ROW, rows, job.z + 4 * d)
            for d in range(whole, job.d_head):
                for lane in range(LANES):
                    set_float(job.z + get_int(rows + 8 * lane) + 4 * d, get_float(source + d * _ROW + 4 * lane))


def _make_attend(width, each):
    """Attention of a block of queries, `width` vectors of them with `each` lanes to a query, over the keys from `first`
    to end - 1.
    """
    splat_rows = splat_pairs if each == 2 else splat_tile

    def make_tile(n_rows, known_stride):
        n_sums = n_rows * width
        bytes_ahead = 4 * n_rows * each

        @inner_loop
        def add_tile(rows, row_stride, stride, columns, n, sums, ahead):
            row_stride = known_stride or row_stride
            totals = zeros(n_sums)
            for i in range(n):
                for line in range(0, bytes_ahead, 64):
                    prefetch(ahead + i * bytes_ahead + line)
                totals = add_outer(
                    totals,
                    splat_rows(rows + i * stride, row_stride, n_rows),
                    load_tile(columns + i * _ROW, VECTOR, width),
                )
            add_to(sums, _ROW, VECTOR, totals, width)

        return add_tile

    def make_multiply(known_stride):
        n_at_once = _SUMS // width
        add_tile, add_row = make_tile(n_at_once, known_stride), make_tile(1, 0)

        @device
        def multiply(rows, n_rows, row_stride, stride, columns, n, sums, ahead):
            """Adds to sums[row][query] the products rows[row, i] * columns[i][query], over i below n. Of a row's pairs
            of elements, where a query has two lanes, each lane meets its own.

            Meanwhile memory is asked for what is `ahead`, as large as the rows. A stride between rows that is known
            when compiling (or 0) spares a register for each row.
            """
            whole = n_rows // n_at_once * n_at_once
            for row in range(0, whole, n_at_once):
                to = ahead + row * n * 4 * each
                add_tile(rows + row * row_stride, row_stride, stride, columns, n, sums + row * _ROW, to)
            for row in range(whole, n_rows):
                add_row(rows + row * row_stride, row_stride, stride, columns, n, sums + row * _ROW, ahead)

        return multiply

    score_any, score_64, mix = make_multiply(0), make_multiply(4 * 64), make_multiply(4 * each)

    @inner_loop
    def softmax(block, n, z_end):
        """From n scores to their weights; what was summed before is put on the new scale."""
        for i in range(0, width * VECTOR, VECTOR):
            before = load(block.largest + i)
            largest = before
            for at in range(i, n * _ROW, _ROW):
                largest = maximum(largest, load(block.scores + at))
            store(block.largest + i, largest)
            kept = exp(before - largest)
            mass = load(block.mass + i) * kept
            for at in range(i, n * _ROW, _ROW):
                weight = exp(load(block.scores + at) - largest)
                store(block.scores + at, weight)
                mass = mass + weight
            store(block.mass + i, mass)
            for at in range(block.z + i, z_end, _ROW):
                store(at, load(at) * kept)

    @device
    def hide(block, key, n):
        """Takes away the scores of keys that a query may not see."""
        for i in range(n):
            for vector in range(width):
                score = block.scores + i * _ROW + vector * VECTOR
                begin, last = block.first_key + vector * VECTOR, block.last_key + vector * VECTOR
                store(score, only_between(load(score), key + i, load_ints(begin), load_ints(last)))

    @device
    def look(job, place, block, first, end):
        """Every query's weight for the keys from `first` to end - 1; block.largest holds the logs."""
        tables = place.tables + 8 * block.sequence * place.n_pieces
        key = first
        while key < end:
            slot = key % job.piece_length
            n = min(min(_KEYS, job.piece_length - slot), end - key)
            keys = (
                get_int(tables + 8 * (key // job.piece_length))
                + 4 * job.key_offset
                + 4 * (block.kv_head * job.piece_length + slot) * job.d_head
            )
            for i in range(0, n * _ROW, VECTOR):
                store(block.scores + i, splat(0.0))
            score_any(keys, n, 4 * job.d_head, 4, block.queries, job.d_head, block.scores, keys)
            for i in range(n * width):
                score = block.scores + i * VECTOR
                store(score, exp(load(score) - load(block.largest + i % width * VECTOR)))
            hide(block, key, n)
            for i in range(n * width):
                store(block.scores + i * VECTOR, maximum(load(block.scores + i * VECTOR), splat(0.0)))
            write(job, block, key, n)
            key += n

    @device
    def write(job, block, key, n):
        """Puts the weights of n keys into each query's row of the pattern."""
        whole = n // LANES * LANES
        for vector in range((block.n + LANES - 1) // LANES):
            rows, source = block.rows + 8 * vector * LANES, block.scores + vector * VECTOR
            for i in range(0, whole, LANES):
                scatter_columns(source + i * _ROW, _ROW, rows, job.z + 4 * (key + i))
            for i in range(whole, n):
                for lane in range(LANES):
                    to = job.z + get_int(rows + 8 * lane) + 4 * (key + i)
                    set_float(to, get_float(source + i * _ROW + 4 * lane))

    @device
    def attend(job, place, block, first, end, mask):
        tables = place.tables + 8 * block.sequence * place.n_pieces
        key = first
        while key < end:
            slot = key % job.piece_length
            n = min(min(_KEYS, job.piece_length - slot), end - key)
            piece = get_int(tables + 8 * (key // job.piece_length))
            at = 4 * (block.kv_head * job.piece_length + slot) * job.d_head
            keys, values = piece + 4 * job.key_offset + at, piece + 4 * job.value_offset + at
            next_keys, next_values = keys, values
            if key + n < end:
                slots_on = (key + n) % job.piece_length - slot
                ahead = get_int(tables + 8 * ((key + n) // job.piece_length)) + 4 * slots_on * job.d_head + at
                next_keys, next_values = ahead + 4 * job.key_offset, ahead + 4 * job.value_offset
            for i in range(0, n * _ROW, VECTOR):
                store(block.scores + i, splat(0.0))
            if job.d_head == 64:
                score_64(keys, n, 4 * 64, 4 * each, block.queries, 64 // each, block.scores, next_keys)
            else:
                score_any(keys, n, 4 * job.d_head, 4 * each, block.queries, job.d_head // each, block.scores, next_keys)
            if each == 2:
                for i in range(0, n * _ROW, _ROW):
                    half = load(block.scores + i)
                    store(block.scores + i, half + swap_neighbours(half))
            if mask:
                hide(block, key, n)
            softmax(block, n, block.z + job.d_head // each * _ROW)
            mix(values, job.d_head // each, 4 * each, 4 * job.d_head, block.scores, n, block.z, next_values)
            key += n

    return attend, look


(_attend_few, _), (_attend_many, _look) = _make_attend(1, _LANES_OF_FEW), _make_attend(_WIDTH, 1)
