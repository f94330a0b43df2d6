"""Cut scikit-learn's two sample photographs into a dataset whose images may be shown: data/raw/scenes/<place>/<n>.png.

    python docs/evidence/birds/gallery/scenes.py

A place is a square of 96 pixels in a photograph, and its images are six cuts around it that are shifted by up to 12
pixels: retrieval means finding the other cuts of the same place. Places without contrast (sky, blurred leaves) are left
out. The photographs are china.jpg (by danielbuechele) and flower.jpg (by vultilion), both CC BY 2.0.
"""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

SIDE, SHIFT, CUTS = 96, 12, 6
LEAST_CONTRAST = 30  # standard deviation of the 256 gray values


def main(folder: Path) -> None:
    """Write the images of every place, the same ones each time."""
    shifts = np.random.default_rng(0)
    for name in ("china", "flower"):
        pixels = load_sample_image(f"{name}.jpg")
        height, width = (side - SIDE - SHIFT for side in pixels.shape[:2])
        for top in range(SHIFT, height, SIDE + SHIFT):
            for left in range(SHIFT, width, SIDE + SHIFT):
                if pixels[top : top + SIDE, left : left + SIDE].mean(axis=2).std() < LEAST_CONTRAST:
                    continue
                place = folder / f"{name}_{top:03d}_{left:03d}"
                place.mkdir(parents=True, exist_ok=True)
                for number, (down, right) in enumerate(shifts.integers(-SHIFT, SHIFT + 1, (CUTS, 2))):
                    y, x = top + down, left + right
                    Image.fromarray(pixels[y : y + SIDE, x : x + SIDE]).save(place / f"{number}.png")


if __name__ == "__main__":
    main(Path("data/raw/scenes"))
