"""Numbers as directions: how sixteen values of plus or minus one name a token, or a class of tokens.

A head compares what it seeks with what it finds by a dot product, and so does the unembedding. Names should then be
vectors of one length, far from each other. The words of the extended Hamming code are: any two differ in at least four
of sixteen places, so that a word's dot product is 16 with itself and at most 8 with any other, whatever the two
numbers are. There are 2,048 such words, one for every number of eleven bits.

Each bit of the number stands for one product of at most two out of four variables; the word is the sum of these
products, modulo two, at the sixteen points where every variable is 0 or 1. (That is the Reed-Muller code of second
order on four variables: MacWilliams and Sloane, The Theory of Error-Correcting Codes, chapter 13.)
"""

from functools import cache
from itertools import combinations, product

import torch
from torch import Tensor

WIDTH = 16
"""Values in a code word."""

NEAREST = 8
"""The largest dot product of two different words; a word's with itself is `WIDTH`."""

_POINTS = list(product((0, 1), repeat=4))
_PRODUCTS = [variables for size in (2, 1, 0) for variables in combinations(range(4), size)]
_GENERATOR = torch.tensor([[all(point[v] for v in variables) for point in _POINTS] for variables in _PRODUCTS]).int()


@cache
def codeword(number: int) -> Tensor:
    """The word of a number from 0 to 2,047: float32 [16] of ones, with a minus where the code's bit is set."""
    if not 0 <= number < 1 << len(_PRODUCTS):
        raise ValueError(f"code words number 0 to {(1 << len(_PRODUCTS)) - 1}; got {number}")
    bits = torch.tensor([number >> bit & 1 for bit in range(len(_PRODUCTS))], dtype=torch.int32)
    return 1.0 - 2.0 * (bits @ _GENERATOR % 2)


def orthogonal_codeword(number: int) -> Tensor:
    """One of four words, 0 to 3, whose dot products with each other are 0: the four variables by themselves."""
    return codeword(1 << _PRODUCTS.index((number,)))
