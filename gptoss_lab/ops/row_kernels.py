"""Kernels that go along rows: RMSNorm, the rotation of positions, and what lies between a router and its experts."""

from typing import NamedTuple

import numpy as np

from gptoss_lab.ops.compile import Kernel, device, job_reader
from gptoss_lab.ops.place import read_place
from gptoss_lab.ops.simd import (
    fma,
    get_float,
    get_int,
    load,
    set_float,
    set_int,
    splat,
    store,
    sum_lanes,
)
from gptoss_lab.ops.target import LANES


class Norm(NamedTuple):
    """out = x / sqrt(mean(x^2) + eps) * gain for each of n_rows rows of n."""

    x: int
    gain: int
    out: int
    n_rows: int
    n: int
    eps: float


class Rotation(NamedTuple):
    """Turns the pairs (x[i], x[i + half]) of each head by the i-th angle of its position."""

    x: int  # [n_rows, n_heads, 2 * half]
    place: int  # `gptoss_lab.ops.place.Place`
    out: int
    n_rows: int  # sequences times positions
    n_positions: int
    n_heads: int
    half: int


class Grouping(NamedTuple):
    """Sorts (token, rank) pairs by their expert; within an expert they keep their order."""

    experts: int  # int64 [n_pairs]
    n_pairs: int
    n_experts: int
    per_token: int
    starts: int  # int64 [n_experts + 1]: where each expert's pairs begin in what follows
    pairs: int  # int64 [n_pairs]
    tokens: int  # int64 [n_pairs]: their tokens


class Keeping(NamedTuple):
    """Puts new keys and values into pieces (`gptoss_lab.ops.Context`)."""

    keys: int  # [n_sequences, n_positions, n_kv_heads, d_head]
    values: int
    n_sequences: int
    n_positions: int
    n_kv_heads: int
    d_head: int
    place: int  # `gptoss_lab.ops.place.Place`
    piece_length: int
    key_offset: int
    value_offset: int


class Choice(NamedTuple):
    """The k largest of each row, the largest first, and a softmax over those."""

    logits: int  # [n_rows, n]
    n_rows: int
    n: int
    k: int
    indices: int  # int64 [n_rows, k]
    weights: int  # [n_rows, k]


class Sum(NamedTuple):
    """out = x + the sum of k terms, for each of n_rows rows of n."""

    x: int
    terms: int  # [n_rows, k, n]
    out: int
    n_rows: int
    k: int
    n: int


_read_norm, _read_rotation, _read_grouping = job_reader(Norm), job_reader(Rotation), job_reader(Grouping)
_read_keeping, _read_choice, _read_sum = job_reader(Keeping), job_reader(Choice), job_reader(Sum)


@Kernel
def rms_norm(thread, share, n_shares, address):
    job = _read_norm(address)
    for row in range(job.n_rows * share // n_shares, job.n_rows * (share + 1) // n_shares):
        x, out = job.x + 4 * row * job.n, job.out + 4 * row * job.n
        scale = np.float32(1) / np.sqrt(_sum_of_squares(x, job.n) / np.float32(job.n) + np.float32(job.eps))
        whole = job.n // LANES * LANES
        for i in range(0, whole, LANES):
            store(out + 4 * i, load(x + 4 * i) * splat(scale) * load(job.gain + 4 * i))
        for i in range(whole, job.n):
            set_float(out + 4 * i, get_float(x + 4 * i) * scale * get_float(job.gain + 4 * i))


@device
def _sum_of_squares(x, n):
    whole = n // LANES * LANES
    totals = splat(0.0)
    for i in range(0, whole, LANES):
        totals = fma(load(x + 4 * i), load(x + 4 * i), totals)
    total = sum_lanes(totals)
    for i in range(whole, n):
        total += get_float(x + 4 * i) * get_float(x + 4 * i)
    return total


@Kernel
def rotate(thread, share, n_shares, address):
    job = _read_rotation(address)
    place = read_place(job.place)
    for row in range(job.n_rows * share // n_shares, job.n_rows * (share + 1) // n_shares):
        angles = 4 * (row % job.n_positions) * job.half
        for head in range(job.n_heads):
            start = 8 * (row * job.n_heads + head) * job.half
            _rotate_head(job.x + start, place.cos + angles, place.sin + angles, job.out + start, job.half)


@device
def _rotate_head(x, cos, sin, out, half):
    whole = half // LANES * LANES
    for i in range(0, whole, LANES):
        first, second = load(x + 4 * i), load(x + 4 * (half + i))
        c, s = load(cos + 4 * i), load(sin + 4 * i)
        store(out + 4 * i, first * c - second * s)
        store(out + 4 * (half + i), second * c + first * s)
    for i in range(whole, half):
        first, second = get_float(x + 4 * i), get_float(x + 4 * (half + i))
        c, s = get_float(cos + 4 * i), get_float(sin + 4 * i)
        set_float(out + 4 * i, first * c - second * s)
        set_float(out + 4 * (half + i), second * c + first * s)


@Kernel
def group_by_expert(thread, share, n_shares, address):
    """As one share."""
    job = _read_grouping(address)
    for expert in range(job.n_experts + 1):
        set_int(job.starts + 8 * expert, 0)
    for pair in range(job.n_pairs):  # count, one place further on
        at = job.starts + 8 * get_int(job.experts + 8 * pair) + 8
        set_int(at, get_int(at) + 1)
    for expert in range(job.n_experts):
        at = job.starts + 8 * expert
        set_int(at + 8, get_int(at) + get_int(at + 8))
    for pair in range(job.n_pairs):  # starts[e] walks through e's places ...
        at = job.starts + 8 * get_int(job.experts + 8 * pair)
        place = get_int(at)
        set_int(job.pairs + 8 * place, pair)
        set_int(job.tokens + 8 * place, pair // job.per_token)
        set_int(at, place + 1)
    for expert in range(job.n_experts, 0, -1):  # ... and stands where e + 1 began
        set_int(job.starts + 8 * expert, get_int(job.starts + 8 * expert - 8))
    set_int(job.starts, 0)


@Kernel
def keep(thread, share, n_shares, address):
    """As one share."""
    job = _read_keeping(address)
    place = read_place(job.place)
    for row in range(job.n_sequences * job.n_positions):
        position = place.start + row % job.n_positions
        slot = position % job.piece_length
        piece = get_int(place.tables + 8 * (row // job.n_positions * place.n_pieces + position // job.piece_length))
        for head in range(job.n_kv_heads):
            source = 4 * (row * job.n_kv_heads + head) * job.d_head
            target = piece + 4 * (head * job.piece_length + slot) * job.d_head
            _copy(job.keys + source, target + 4 * job.key_offset, job.d_head)
            _copy(job.values + source, target + 4 * job.value_offset, job.d_head)


@device
def _copy(source, to, n):
    whole = n // LANES * LANES
    for i in range(0, 4 * whole, 4 * LANES):
        store(to + i, load(source + i))
    for i in range(4 * whole, 4 * n, 4):
        set_float(to + i, get_float(source + i))


@Kernel
def choose(thread, share, n_shares, address):
    """As one share. Of equal numbers the first is taken first."""
    job = _read_choice(address)
    for row in range(job.n_rows):
        logits = job.logits + 4 * row * job.n
        indices, weights = job.indices + 8 * row * job.k, job.weights + 4 * row * job.k
        for rank in range(job.k):
            best = -1
            for i in range(job.n):
                larger = best < 0 or get_float(logits + 4 * i) > get_float(logits + 4 * best)
                if larger and not _stands_in(i, indices, rank):
                    best = i
            set_int(indices + 8 * rank, best)
        largest, mass = get_float(logits + 4 * get_int(indices)), 0.0
        for rank in range(job.k):
            mass += np.exp(np.float64(get_float(logits + 4 * get_int(indices + 8 * rank)) - largest))
        for rank in range(job.k):
            weight = np.exp(np.float64(get_float(logits + 4 * get_int(indices + 8 * rank)) - largest)) / mass
            set_float(weights + 4 * rank, np.float32(weight))


@device
def _stands_in(i, indices, n):
    found = False
    for rank in range(n):
        found = found or get_int(indices + 8 * rank) == i
    return found


@Kernel
def add_up(thread, share, n_shares, address):
    """A share is some columns, for there may be one row."""
    job = _read_sum(address)
    n_vectors = (job.n + LANES - 1) // LANES
    first, end = n_vectors * share // n_shares * LANES, min(n_vectors * (share + 1) // n_shares * LANES, job.n)
    whole = first + (end - first) // LANES * LANES
    for row in range(job.n_rows):
        x, terms, out = job.x + 4 * row * job.n, job.terms + 4 * row * job.k * job.n, job.out + 4 * row * job.n
        for i in range(4 * first, 4 * whole, 4 * LANES):
            total = splat(0.0)
            for j in range(job.k):
                total = total + load(terms + 4 * j * job.n + i)
            store(out + i, load(x + i) + total)
        for i in range(4 * whole, 4 * end, 4):
            rest = np.float32(0)
            for j in range(job.k):
                rest += get_float(terms + 4 * j * job.n + i)
            set_float(out + i, get_float(x + i) + rest)
