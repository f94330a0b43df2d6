"""Readers: the published layouts read right, and everything that can be wrong with them named in one line."""

import os
import shutil
from pathlib import Path

import pytest
from original_files import make_cars, make_cub, make_devkit, make_sop, picture
from scipy.io import loadmat, savemat

from stages.data import matlab
from stages.data.readers import READERS
from stages.runtime.errors import UserError


def read(reader, raw):
    items = READERS[reader](raw)
    return [(item.image_id, item.class_id, item.class_name, item.source_path) for item in items], items


def test_cub(tmp_path):
    make_cub(tmp_path)
    rows, items = read("cub", tmp_path)
    assert len(rows) == 12
    assert rows[0] == (10, 1, "001.Bird_0", "images/001.Bird_0/Bird_0.jpg")
    assert rows[-1] == (102, 10, "010.Bird_3", "images/010.Bird_3/Bird_2.jpg")
    with items[0].open() as image:
        assert image.size == (12, 14)


def test_cars_merged_annotations(tmp_path):
    rows, items = read("cars", make_cars(tmp_path / "raw"))
    assert [row[0] for row in rows] == list(range(1, 13))
    assert rows[3] == (4, 2, "Car 1", "car_ims/000003.jpg")
    items[-1].open().close()


def test_cars_devkit_has_both_parts_of_each_class(tmp_path):
    rows, items = read("cars", make_devkit(tmp_path / "raw"))
    assert len(rows) == 16
    assert rows[0] == (1, 1, "Car 0", "cars_train/00001.jpg")
    assert rows[8] == (9, 1, "Car 0", "cars_test/00001.jpg")
    items[-1].open().close()


def test_sop(tmp_path):
    make_sop(tmp_path)
    rows, items = read("sop", tmp_path)
    assert [row[1] for row in rows] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert rows[0] == (1, 1, "lamp_1", "lamp_final/111001_0.JPG")
    items[-1].open().close()


def test_folders_around_class_folders_do_not_matter(tmp_path):
    for label in ("b", "a"):
        for i in range(2):
            picture(tmp_path / "mine" / "images" / label / f"{i}.png", i)
    (tmp_path / "mine" / "images" / "a" / "._0.png").write_bytes(b"what macOS leaves")
    assert [row[2:] for row in read("folder", tmp_path)[0]] == [
        ("a", "a/0.png"), ("a", "a/1.png"), ("b", "b/0.png"), ("b", "b/1.png")
    ]  # fmt: skip


@pytest.mark.parametrize("reader", [name for name in READERS if name != "digits"])
@pytest.mark.parametrize("exists", [True, False])
def test_nothing_there(tmp_path, reader, exists):
    raw = tmp_path / "raw"
    if exists:
        raw.mkdir()
    with pytest.raises(UserError, match=r"^(no .*|empty); put ") as caught:
        READERS[reader](raw)
    assert "\n" not in str(caught.value)


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def drop_list(root):
    (root / "image_class_labels.txt").unlink()


def class_without_name(root):
    edit(root / "classes.txt", "4 004.Bird_1\n", "")


def label_out_of_range(root):
    edit(root / "image_class_labels.txt", "10 1\n", "10 201\n")


def no_label(root):
    edit(root / "image_class_labels.txt", "11 1\n", "")


def label_of_no_image(root):
    edit(root / "images.txt", "11 001.Bird_0/Bird_1.jpg\n", "")


def word_for_number(root):
    edit(root / "image_class_labels.txt", "12 1\n", "12 one\n")


def id_twice(root):
    edit(root / "images.txt", "11 001", "10 001")


def image_absent(root):
    (root / "images" / "004.Bird_1" / "Bird_2.jpg").unlink()


def image_not_listed(root):
    picture(root / "images" / "002.Other" / "new.jpg", 99)


def path_leaves(root):
    edit(root / "images.txt", "10 001.Bird_0/", "10 ../../")


def path_absolute(root):
    edit(root / "images.txt", "10 001.Bird_0/Bird_0.jpg", "10 /etc/x.jpg")


def same_path_twice(root):
    edit(root / "images.txt", "Bird_0/Bird_1.jpg", "Bird_0/Bird_0.jpg")


def binary_list(root):
    (root / "classes.txt").write_bytes(os.urandom(100) + b"\xff\xfe")


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (drop_list, "no image_class_labels.txt (there are CUB_200_2011); put it there"),
        (class_without_name, "image_class_labels.txt: image 40: class 4 is out of range: classes.txt names no such"),
        (label_out_of_range, "image_class_labels.txt: image 10: class 201 is out of range"),
        (no_label, "image_class_labels.txt: no class for image 11"),
        (label_of_no_image, "images.txt: no path for image 11"),
        (word_for_number, "image_class_labels.txt: line 3: '12 one' is not `int, int`; mend the line"),
        (id_twice, "images.txt: line 2: id 10 is there twice"),
        (image_absent, "images/004.Bird_1/Bird_2.jpg: listed but absent"),
        (image_not_listed, "images/002.Other/new.jpg: there but not listed"),
        (path_leaves, "image 10: path 'images/../../Bird_0.jpg' leaves the dataset's folder"),
        (path_absolute, "images/etc/x.jpg: listed but absent"),
        (same_path_twice, "an image is listed twice"),
        (binary_list, "classes.txt: not a text file"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_can_be_wrong_with_lists(tmp_path, damage, expected):
    damage(make_cub(tmp_path))
    with pytest.raises(UserError) as caught:
        READERS["cub"](tmp_path)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sop_class_in_both_lists(tmp_path):
    root = make_sop(tmp_path)
    edit(root / "Ebay_test.txt", " 4 1 bicycle", " 3 1 bicycle")
    with pytest.raises(UserError, match=r"Ebay_test.txt: class 3 also belongs to Ebay_train.txt"):
        READERS["sop"](tmp_path)


def truncated(raw):
    path = raw / "cars_annos.mat"
    path.write_bytes(path.read_bytes()[:300])


def web_page(raw):
    (raw / "cars_annos.mat").write_text("<!DOCTYPE html><html>moved</html>")


def no_annotations(raw):
    savemat(raw / "cars_annos.mat", {"class_names": loadmat(raw / "cars_annos.mat")["class_names"]})


def no_names(raw):
    savemat(raw / "cars_annos.mat", {"annotations": loadmat(raw / "cars_annos.mat")["annotations"]})


def fewer_names(raw):
    contents = loadmat(raw / "cars_annos.mat")
    savemat(
        raw / "cars_annos.mat",
        {"annotations": contents["annotations"], "class_names": contents["class_names"][..., :3]},
    )


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (truncated, "cars_annos.mat: not a MATLAB file"),
        (web_page, "cars_annos.mat: not a MATLAB file"),
        (no_annotations, "cars_annos.mat: no `annotations`"),
        (no_names, "cars_annos.mat: no `class_names`"),
        (fewer_names, "class 4 is out of range"),
        (
            lambda raw: (raw / "cars_annos.mat").unlink(),
            "no list of Cars-196 (there are car_ims); put one of its forms there: cars_annos.mat",
        ),
        (lambda raw: shutil.rmtree(raw / "car_ims"), "car_ims/000000.jpg: listed but absent (and 11 more)"),
    ],
)
def test_what_can_be_wrong_with_cars(tmp_path, damage, expected):
    raw = make_cars(tmp_path / "raw")
    damage(raw)
    with pytest.raises(UserError) as caught:
        READERS["cars"](raw)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_devkit_without_the_labels_of_the_test_part(tmp_path):
    raw = make_devkit(tmp_path / "raw")
    (raw / "cars_test_annos_withlabels.mat").unlink()
    with pytest.raises(UserError, match=r"recognized cars_train_annos.mat .*: no cars_test_annos_withlabels.mat; put"):
        READERS["cars"](raw)


def test_digits_need_no_files():
    assert len(READERS["digits"](Path("nowhere"))) == 1797


def test_the_process_for_matlab_files_needs_nothing_of_the_project(tmp_path, monkeypatch):
    """A copy of the project beside an environment that has no such package, or another version of it."""
    alone = shutil.copy(matlab.PROCESS, tmp_path)
    monkeypatch.setattr(matlab, "PROCESS", Path(alone))
    assert "stages" not in {line.split()[1].partition(".")[0] for line in Path(alone).read_text().splitlines()
                            if line.lstrip().startswith(("import ", "from "))}  # fmt: skip
    assert len(matlab.read(make_cars(tmp_path / "raw") / "cars_annos.mat", "images")[0]) == 12
