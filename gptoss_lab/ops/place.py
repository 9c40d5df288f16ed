"""Where the new tokens of a run stand: in one record, to which many jobs point, so that all are told at once."""

from typing import NamedTuple

from gptoss_lab.ops.compile import job_reader


class Place(NamedTuple):
    """Positions from `start` on, of every sequence of a batch; and their keys' and values' pieces
    (`gptoss_lab.ops.Context`).
    """

    start: int
    tables: int  # int64 [batch, n_pieces]: addresses
    n_pieces: int
    cos: int  # float32 [pos, d_head / 2], from `start` on
    sin: int


read_place = job_reader(Place)
