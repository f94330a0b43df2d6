"""From stored pixels to batches."""

import time

import numpy as np
import pytest
import torch

from stages.data.batches import ahead, batch_buffer, random_crop, random_crop_there, training_batches
from stages.data.splits import Split, central_crop


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
        draws, buffer = torch.Generator().manual_seed(seed), batch_buffer(data, 1, 4)
        (image,) = random_crop(data, torch.tensor([1]), draws, crop=4, flip=True, out=buffer)
        stored = torch.from_numpy(data.pixels[3]).permute(2, 0, 1).float() / 255
        windows = [stored[:, y : y + 4, x : x + 4] for y in range(3) for x in range(3)]
        plain = any(torch.allclose(image, window) for window in windows)
        flipped = any(torch.allclose(image.flip(2), window) for window in windows)
        assert plain or flipped
        mirrored += flipped
    assert 10 < mirrored < 30


def test_a_buffer_is_reused():
    data, rows = split(), torch.tensor([2, 0])
    buffer = batch_buffer(data, 5, 4)

    def crop():
        return random_crop(data, rows, torch.Generator().manual_seed(3), crop=4, flip=True, out=buffer)

    images = crop()
    assert images.data_ptr() == crop().data_ptr() == buffer.data_ptr()
    assert images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("flip", [True, False])
def test_a_device_that_holds_the_pixels_cuts_the_same_images(flip):
    data, rows = split(), torch.tensor([2, 0, 1, 1])
    pixels = torch.from_numpy(data.pixels[data.rows])
    for seed in range(10):
        there = random_crop_there(pixels, rows, torch.Generator().manual_seed(seed), crop=4, flip=flip)
        draws, buffer = torch.Generator().manual_seed(seed), batch_buffer(data, 4, 4)
        here = random_crop(data, rows, draws, crop=4, flip=flip, out=buffer)
        assert torch.equal(here, there)
        assert there.is_contiguous(memory_format=torch.channels_last)


def test_batches_made_ahead_are_the_ones_made_in_turn():
    """A batch stays what it is until the next is asked for, though that one is already being made."""
    data = split()
    batches = [torch.tensor(rows) for rows in ([0, 1], [2, 0], [1], [2, 2], [0, 2])]
    load = training_batches(data, torch.device("cpu"), most=2, crop=4, flip=True)
    draws, buffer = torch.Generator().manual_seed(3), batch_buffer(data, 2, 4)
    seen = 0
    for rows, images in load(iter(batches), torch.Generator().manual_seed(3)):
        expected = random_crop(data, rows, draws, crop=4, flip=True, out=buffer)
        assert torch.equal(rows, batches[seen])
        assert torch.equal(images, expected)
        time.sleep(0.02)
        assert torch.equal(images, expected)
        seen += 1
    assert seen == len(batches)


def test_an_error_ahead_arrives_in_its_turn():
    def failing():
        yield 1
        raise OSError("disk")

    items = ahead(failing())
    assert next(items) == 1
    with pytest.raises(OSError, match="disk"):
        next(items)
