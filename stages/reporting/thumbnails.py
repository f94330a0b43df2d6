"""Pictures inside a page: pixels to data addresses, small enough to send."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 96  # pixels; larger images are shrunk, since a page holds hundreds
SHARP = 64  # images up to this side stay PNG; photographs above it are a tenth of the size as JPEG


def data_address(pixels: NDArray[np.uint8], *, exact: bool = False) -> str:
    """An image uint8 (H, W, C), C 1 or 3, as an address that holds it; ``exact`` forbids JPEG."""
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    if max(picture.size) > SIDE:
        picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    kind = "PNG" if exact or max(picture.size) <= SHARP else "JPEG"
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, optimize=True, **({"quality": 85} if kind == "JPEG" else {}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def to_pixels(image: NDArray[np.floating]) -> NDArray[np.uint8]:
    """An image (C, H, W) in [0, 1] as uint8 (H, W, C)."""
    return np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8).transpose(1, 2, 0)


def magnification(eps: float) -> float:
    """By how much a perturbation within ``eps`` can be multiplied to fill the range around mid-grey, one decimal."""
    return max(1.0, np.floor(10 * 0.5 / eps) / 10)


def difference(clean: NDArray[np.floating], perturbed: NDArray[np.floating], factor: float) -> NDArray[np.uint8]:
    """``factor`` times the perturbation (C, H, W) around mid-grey, as uint8 (H, W, C)."""
    return to_pixels(0.5 + factor * (perturbed - clean))
