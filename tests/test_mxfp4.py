"""The number format, against its table written out and against transformers' own decoding."""

import pytest
import torch

from gptoss_lab import mxfp4
from gptoss_lab.mxfp4 import BLOCK, E2M1_VALUES, Mxfp4


def random_packed(*shape: int, seed: int = 0) -> Mxfp4:
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randint(256, (*shape, BLOCK // 2), generator=generator, dtype=torch.uint8)
    return Mxfp4(blocks, torch.randint(100, 140, shape, generator=generator, dtype=torch.uint8))


def test_every_code_and_the_order_of_nibbles() -> None:
    blocks = torch.tensor([[[low | ((low + 1) % 16) << 4 for low in range(16)]]], dtype=torch.uint8)
    decoded = mxfp4.decode(Mxfp4(blocks, torch.tensor([[128]], dtype=torch.uint8)))
    expected = [2 * E2M1_VALUES[code % 16] for low in range(16) for code in (low, low + 1)]
    assert decoded.tolist() == [expected]


def test_decoding_is_that_of_transformers() -> None:
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    packed = random_packed(3, 10, 4)
    theirs = convert_moe_packed_tensors(packed.blocks, packed.scales, dtype=torch.float32)
    assert torch.equal(mxfp4.decode(packed), theirs.mT)
    assert torch.equal(mxfp4.decode(packed, torch.bfloat16).float(), theirs.mT)


def test_what_was_decoded_is_encoded_without_loss() -> None:
    values = mxfp4.decode(random_packed(5, 7, 3))
    assert torch.equal(mxfp4.decode(mxfp4.encode(values)), values)


def test_encoding_takes_the_nearest_value_at_one_of_the_two_scales_that_suit() -> None:
    values = torch.randn(200, BLOCK, generator=torch.Generator().manual_seed(1))
    error = (mxfp4.decode(mxfp4.encode(values)) - values).double().square().sum(dim=-1)
    table = torch.tensor(E2M1_VALUES, dtype=torch.float64)
    exponent = values.abs().amax(dim=-1, keepdim=True).log2().floor() - 2
    attempts = []
    for wider in (0, 1):
        scaled = values.double() / 2 ** (exponent + wider)
        nearest = table[(scaled.unsqueeze(-1) - table).abs().argmin(dim=-1)] * 2 ** (exponent + wider)
        attempts.append((nearest - values).square().sum(dim=-1))
    torch.testing.assert_close(error, torch.minimum(*attempts), rtol=1e-5, atol=0)


def test_ties_go_to_the_even_mantissa() -> None:
    values = torch.zeros(1, BLOCK)
    values[0, :8] = torch.tensor([6.0, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])
    decoded = mxfp4.decode(mxfp4.encode(values))
    assert decoded[0, :8].tolist() == [6.0, 0.0, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0]


def test_extreme_blocks() -> None:
    values = torch.stack([torch.zeros(BLOCK), torch.full((BLOCK,), 1e-38), torch.full((BLOCK,), -3e38)])
    decoded = mxfp4.decode(mxfp4.encode(values))
    assert torch.equal(decoded[0], torch.zeros(BLOCK))
    torch.testing.assert_close(decoded[2], values[2], rtol=0.2, atol=0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.zeros(2, 33), "rows of 33"),
        (torch.full((1, 32), torch.nan), "finite"),
        (torch.full((1, 32), torch.inf), "finite"),
    ],
)
def test_what_cannot_be_packed_is_refused(values: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mxfp4.encode(values)


def test_blocks_and_scales_that_do_not_fit_are_refused() -> None:
    blocks = torch.zeros(2, 3, 16, dtype=torch.uint8)
    with pytest.raises(ValueError, match="do not fit"):
        Mxfp4(blocks, torch.zeros(2, 4, dtype=torch.uint8))
    with pytest.raises(TypeError, match="float32"):
        Mxfp4(blocks, torch.zeros(2, 3))
