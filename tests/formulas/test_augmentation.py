"""Shifts of pictures against padding and cropping in NumPy."""

import numpy as np
import pytest
import torch

from torch_ppo.formulas.augmentation import NUM_OFFSETS, PAD, shifted


def padded_and_cropped(images, offset):
    """`(T, B, height, width, channels)`, one sequence after another."""
    found = np.empty_like(images)
    height, width = images.shape[2:4]
    for b, (row, column) in enumerate(offset):
        padded = np.pad(images[:, b], ((0, 0), (4, 4), (4, 4), (0, 0)), mode="edge")
        found[:, b] = padded[:, row : row + height, column : column + width]
    return found


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("size", [(9, 7, 3), (3, 2, 1), (1, 12, 2)])
def test_shifts_are_crops_of_the_padded_image(size, dtype):
    """All offsets, in images larger and smaller than the padding."""
    assert (PAD, NUM_OFFSETS) == (4, 9)
    offset = torch.cartesian_prod(torch.arange(9), torch.arange(9))
    images = torch.randint(256, (2, len(offset), *size), generator=torch.Generator().manual_seed(0)).to(dtype)
    found = shifted(images, offset)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found.numpy(), padded_and_cropped(images.numpy(), offset.numpy()))


def test_the_middle_leaves_images_where_they_are():
    images = torch.rand(3, 2, 6, 5, 3)
    assert torch.equal(shifted(images, torch.full((2, 2), PAD)), images)
