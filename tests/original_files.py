"""Datasets in their published layouts, made of a few small images."""

import numpy as np
from PIL import Image
from scipy.io import savemat


def picture(path, seed):
    """Write a small image that differs from every other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (14, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, quality=95)


def make_cub(raw, classes=4, images=3):
    """images.txt, image_class_labels.txt, classes.txt and images/; class and image ids have gaps, as in a subset."""
    root = raw / "CUB_200_2011"
    root.mkdir(parents=True)
    names = {3 * c + 1: f"{3 * c + 1:03}.Bird_{c}" for c in range(classes)}
    entries = [(10 * c + i, c, f"{names[c]}/Bird_{i}.jpg") for c in names for i in range(images)]
    (root / "classes.txt").write_text("".join(f"{c} {name}\n" for c, name in names.items()))
    (root / "images.txt").write_text("".join(f"{i} {path}\n" for i, _, path in entries))
    (root / "image_class_labels.txt").write_text("".join(f"{i} {c}\n" for i, c, _ in entries))
    for i, _, path in entries:
        picture(root / "images" / path, i)
    return root


def annotations(entries, path_field):
    """A MATLAB struct array of (path, class)."""
    boxes = {f"bbox_{side}": 1 for side in ("x1", "x2", "y1", "y2")}
    kinds = [*((name, object) for name in boxes), ("class", object), (path_field, object)]
    records = np.empty((1, len(entries)), dtype=kinds)
    for i, (path, class_id) in enumerate(entries):
        records[0, i] = (*boxes.values(), class_id, path)
    return records


CARS = [f"Car {c}" for c in range(4)]


def make_cars(raw, images=3):
    """cars_annos.mat beside car_ims/."""
    raw.mkdir(parents=True)
    entries = [(f"car_ims/{c * images + i:06}.jpg", c + 1) for c in range(4) for i in range(images)]
    for i, (path, _) in enumerate(entries):
        picture(raw / path, i)
    names = np.array(CARS, dtype=object)
    savemat(raw / "cars_annos.mat", {"annotations": annotations(entries, "relative_im_path"), "class_names": names})
    return raw


def make_devkit(raw, images=4):
    """The devkit pair with cars_train/ and cars_test/; every class has images in both parts."""
    (raw / "devkit").mkdir(parents=True)
    savemat(raw / "devkit" / "cars_meta.mat", {"class_names": np.array(CARS, dtype=object)})
    for part, name in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        entries = [(f"{c * images + i + 1:05}.jpg", c + 1) for c in range(4) for i in range(images // 2)]
        for i, (path, _) in enumerate(entries):
            picture(raw / f"cars_{part}" / path, i + 100 * (part == "test"))
        savemat(raw / name, {"annotations": annotations(entries, "fname")})
    return raw


def make_sop(raw, images=2):
    """Ebay_train.txt and Ebay_test.txt with their header, and two kinds of product."""
    root = raw / "Stanford_Online_Products"
    root.mkdir(parents=True)
    image = 0
    for name, classes in (("train", (1, 2, 3)), ("test", (4, 5))):
        lines = ["image_id class_id super_class_id path"]
        for class_id in classes:
            kind = ("bicycle", "lamp")[class_id % 2]
            for i in range(images):
                image += 1
                path = f"{kind}_final/{111000 + class_id}_{i}.JPG"
                picture(root / path, image)
                lines.append(f"{image} {class_id} {1 + class_id % 2} {path}")
        (root / f"Ebay_{name}.txt").write_text("\n".join(lines) + "\n")
    return root
