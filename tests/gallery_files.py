"""Small copies of the layouts of datasets with queries and gallery as two sets."""

import numpy as np
from conftest import shrink
from PIL import Image

HEADER = "image_name                                             item_id        evaluation_status"


def portrait(path, identity, seed):
    """Write a small image that looks like others of its identity and is equal to none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    common = np.random.default_rng(identity + 1000).integers(0, 160, (16, 12, 3))
    own = np.random.default_rng(seed).integers(0, 95, (16, 12, 3))
    Image.fromarray((common + own).astype(np.uint8)).save(path, quality=95)


def in_shop_lines():
    """(image, item, status) of 4 training items and 3 test items, of which the list alternates query and gallery."""
    lines = []
    for item in (2, 5, 9, 10, 11, 30, 31):
        shop = "WOMEN/Dresses" if item % 2 else "MEN/Denim"
        for i in range(4):
            status = "train" if item < 11 else ("query", "gallery")[i % 2]
            lines.append((f"img/{shop}/id_{item:08}/0{i}_{i}_front.jpg", f"id_{item:08}", status))
    return lines


def make_in_shop(raw, lines=None):
    """``Eval/list_eval_partition.txt`` and ``Img/img/``, padded by blanks as published."""
    lines = in_shop_lines() if lines is None else lines
    listing = raw / "Eval" / "list_eval_partition.txt"
    listing.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"{image:<55}{item:<15}{status}" for image, item, status in lines]
    listing.write_text("\n".join([str(len(rows)), HEADER, *rows, ""]))
    for seed, (image, item, _) in enumerate(in_shop_lines()):
        portrait(raw / "Img" / image, int(item[3:]), seed)
    return listing


def make_market(raw):
    """Market-1501's folders: 4 training identities, 5 queried ones, each in 3 cameras, distractors and junk."""
    root, seed = raw / "Market-1501-v15.09.15", 0

    def picture(folder, identity, camera, frame):
        nonlocal seed
        seed += 1
        name = f"{identity}_c{camera}s1_{frame:06}_{frame % 100:02}.jpg"
        portrait(root / folder / name, seed if identity in ("0000", "-1") else int(identity), seed)

    for identity in ("0002", "0007", "0010", "0011"):
        for camera in (1, 2, 3):
            picture("bounding_box_train", identity, camera, 151 + camera)
    for identity in ("0001", "0003", "0004", "0005", "0006"):
        for camera in (1, 2):
            picture("query", identity, camera, 1000)
        for camera in (1, 2, 3):
            picture("bounding_box_test", identity, camera, 151 + camera)
            picture("bounding_box_test", identity, camera, 276 + camera)
    for frame in range(6):
        picture("bounding_box_test", "0000", 1 + frame % 3, 400 + frame)
        picture("bounding_box_test", "-1", 1 + frame % 3, 500 + frame)
    picture("gt_bbox", "0001", 1, 151)
    (root / "bounding_box_test" / "Thumbs.db").write_bytes(b"what Windows leaves")
    return root


def make_folders(raw):
    """``train/``, ``query/`` and ``gallery/`` with class folders; the gallery has a class that no query has."""
    classes = {"train": ("ash", "elm", "oak"), "query": ("fir", "yew"), "gallery": ("fir", "ivy", "yew")}
    seed = 0
    for part, names in classes.items():
        for name in names:
            for i in range(2):
                seed += 1
                portrait(raw / part / name / f"{part}{i}.png", sum(map(ord, name)), seed)


def use_galleries(loaded, name, reader, counts, per_class):
    """A dataset block for one of them; ``counts`` are images and classes of train, query and gallery."""
    lists = zip(("train", "query", "gallery"), counts, strict=True)
    loaded["datasets"][name] = loaded["datasets"]["digits"] | {
        "reader": reader,
        "side": 10,
        "crop": 8,
        "split": {"by": "query_gallery"},
        "expected": {
            **{part: {"images": images, "classes": classes} for part, (images, classes) in lists},
            "images_per_class": per_class,
            "duplicates_across_splits": 0,
        },
    }


MARKET = ("persons", "market", ((12, 4), (10, 5), (36, 6)), [3, 8])
IN_SHOP = ("clothes", "in_shop", ((16, 4), (6, 3), (6, 3)), [4, 4])
FOLDERS = ("trees", "folder", ((6, 3), (4, 2), (6, 3)), [2, 4])


def set_up(project, data, make):
    """Give a project a dataset of one of the layouts, alone in its run."""
    name = data[0]

    def change(loaded):
        shrink(loaded)
        use_galleries(loaded, *data)
        loaded["run"] |= {"datasets": [name], "defenses": ["act"]}
        loaded["bases"]["pgd_attack"]["alpha_over_eps"] = "3/77"
        loaded["visualize"] = {"attacks": ["ltm", "qa_plus"], "queries": 3}

    project.edit(change)
    make(project.folder / "data" / "raw" / name)
