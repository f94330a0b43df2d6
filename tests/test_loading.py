"""From stored pixels to batches."""

import numpy as np
import pytest
import torch

from stages.io.data import Split, batch_buffer, central_crop, random_crop


def split():
    pixels = np.random.default_rng(0).integers(0, 255, (5, 6, 6, 3), dtype=np.uint8)
    rows = np.array([1, 3, 4])
    return Split(pixels, rows, np.zeros(3, dtype=np.int64), rows)


def test_central_crop_by_loop():
    data = split()
    images = central_crop(data, torch.tensor([0, 2]), 4)
    assert images.shape == (2, 3, 4, 4)
    for position, row in enumerate((1, 4)):
        for channel in range(3):
            for y in range(4):
                for x in range(4):
                    expected = data.pixels[row, y + 1, x + 1, channel] / 255
                    assert images[position, channel, y, x].item() == pytest.approx(expected)


def test_random_crops_are_windows_of_the_image_sometimes_mirrored():
    data, mirrored = split(), 0
    for seed in range(40):
        (image,) = random_crop(data, torch.tensor([1]), torch.Generator().manual_seed(seed), crop=4, flip=True)
        stored = torch.from_numpy(data.pixels[3]).permute(2, 0, 1).float() / 255
        windows = [stored[:, y : y + 4, x : x + 4] for y in range(3) for x in range(3)]
        plain = any(torch.allclose(image, window) for window in windows)
        flipped = any(torch.allclose(image.flip(2), window) for window in windows)
        assert plain or flipped
        mirrored += flipped
    assert 10 < mirrored < 30


def test_a_buffer_is_reused_and_changes_nothing():
    data, rows = split(), torch.tensor([2, 0])
    buffer = batch_buffer(data, 5, 4)

    def crop(out):
        return random_crop(data, rows, torch.Generator().manual_seed(3), crop=4, flip=True, out=out)

    images = crop(buffer)
    assert torch.equal(images, crop(None))
    assert images.data_ptr() == crop(buffer).data_ptr() == buffer.data_ptr()
    assert images.is_contiguous(memory_format=torch.channels_last)
