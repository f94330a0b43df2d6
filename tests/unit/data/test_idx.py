"""IDX files: every pixel and label in file order, and one line for each way in which four files can be wrong."""

import gzip
import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from idx_files import NAMES, encoded, write_idx

from stages.data.download import difference
from stages.data.readers import READERS
from stages.runtime import params
from stages.runtime.errors import UserError

idx = READERS["idx"]


@pytest.mark.parametrize("packed", [True, False], ids=["gzip", "plain"])
def test_every_image_and_label_in_file_order(tmp_path, packed):
    arrays = write_idx(tmp_path, packed=packed)
    items = idx(tmp_path)
    assert [item.image_id for item in items] == list(range(60))
    assert [item.split for item in items] == ["train"] * 40 + ["test"] * 20
    for item, pixels, label in zip(
        items,
        np.concatenate([arrays["train"][0], arrays["test"][0]]),
        np.concatenate([arrays["train"][1], arrays["test"][1]]),
        strict=True,
    ):
        assert np.array_equal(np.asarray(item.open()), pixels)
        assert (item.class_id, item.class_name) == (label, str(label))
    assert items[41].source_path == "t10k-images-idx3-ubyte:1"


def test_other_places_and_spellings_of_the_files(tmp_path):
    """`MNIST/raw/` of one library, a folder per file and a dot in the name of others."""
    write_idx(tmp_path / "MNIST" / "raw")
    assert len(idx(tmp_path)) == 60
    write_idx(tmp_path / "other", packed=False)
    for names in NAMES.values():
        for name in names:
            (tmp_path / "dots" / name).mkdir(parents=True)
            shutil.move(tmp_path / "other" / name, tmp_path / "dots" / name / name.replace("-idx", ".idx"))
    assert len(idx(tmp_path / "dots")) == 60


def swap(folder):
    one, other = folder / f"{NAMES['train'][0]}.gz", folder / f"{NAMES['train'][1]}.gz"
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def mixed(folder):
    shutil.copy(folder / f"{NAMES['test'][1]}.gz", folder / f"{NAMES['train'][1]}.gz")


def packed_anew(change):
    def apply(folder):
        path = folder / f"{NAMES['test'][0]}.gz"
        path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()))))

    return apply


def cut(folder):
    path = folder / f"{NAMES['test'][0]}.gz"
    path.write_bytes(path.read_bytes()[:-30])


BROKEN = {
    "missing": (lambda folder: (folder / f"{NAMES['test'][0]}.gz").unlink(), "no t10k-images-idx3-ubyte.gz"),
    "swapped": (swap, "train-images-idx3-ubyte.gz: holds labels where images belong"),
    "labels of the other list": (mixed, "40 images, but train-labels-idx1-ubyte.gz has 20 labels"),
    "cut gzip": (cut, "t10k-images-idx3-ubyte.gz: cannot be decompressed"),
    "short": (packed_anew(lambda content: content[:-1]), "promises 15680 bytes and it holds 15679"),
    "long": (packed_anew(lambda content: content + b"!"), "promises 15680 bytes and it holds more than 15680"),
    "web page": (packed_anew(lambda content: b"<html>moved</html>"), "is not an IDX file of images"),
    "empty": (packed_anew(lambda content: b""), "is not an IDX file of images (it begins with nothing)"),
    "header alone": (packed_anew(lambda content: content[:9]), "ends within its header"),
    "huge": (packed_anew(lambda content: content[:4] + b"\x7f\xff\xff\xff" * 3), "more than any such dataset has"),
    "no image": (
        lambda folder: [
            (folder / f"{name}.gz").write_bytes(gzip.compress(encoded(np.zeros(shape, dtype=np.uint8))))
            for name, shape in zip(NAMES["test"], ((0, 28, 28), (0,)), strict=True)
        ],
        "t10k-images-idx3-ubyte.gz: holds no image",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_wrong_file_is_named_in_one_line(tmp_path, case):
    write_idx(tmp_path)
    spoil, expected = BROKEN[case]
    spoil(tmp_path)
    with pytest.raises(UserError) as caught:
        idx(tmp_path)
    assert expected in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_what_a_mirror_compressed_anew_is_the_same_file(tmp_path):
    """The checksum is that of the content, whatever the compression; other content is not taken."""
    content = encoded(np.arange(50, dtype=np.uint8))
    source = {"url": "https://example.org/labels.gz", "unpacked_md5": hashlib.md5(content).hexdigest()}
    path = tmp_path / "labels.gz"
    for level in (1, 9):
        path.write_bytes(gzip.compress(content, compresslevel=level))
        assert difference(path, source) is None
    path.write_bytes(content)
    assert difference(path, source) is None
    path.write_bytes(gzip.compress(content[:-1]))
    assert "expected unpacked_md5" in difference(path, source)
    path.write_bytes(gzip.compress(content)[:-9])
    assert "cannot be decompressed" in difference(path, source)


@pytest.mark.parametrize("dataset", ["mnist", "fashion"])
def test_the_published_files_are_the_published_ones(dataset):
    raw = Path(os.environ.get("CA_TRIDE_TEST_DATA", "")) / dataset
    if not os.environ.get("CA_TRIDE_TEST_DATA") or not raw.is_dir():
        pytest.skip(f"no {dataset}: set CA_TRIDE_TEST_DATA to the folder that has it")
    for source in params.load()["datasets"][dataset]["fetch"]:
        assert difference(raw / source["url"].rsplit("/", 1)[1], source) is None
