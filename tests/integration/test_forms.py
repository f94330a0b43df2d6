"""Published datasets as people have them: other forms, doubled folders, lists and archives from other systems."""

import io
import shutil
import zipfile

import pytest
from archive_files import unpack, zipped
from original_files import CARS, make_cars, make_cub, make_devkit, make_sop, picture

from stages.data.readers import READERS
from stages.runtime.errors import UserError


def make_by_classes(raw, where="car_data/car_data", named=lambda part, folder, file: file):
    """The copy by classes; one name of a class has a slash, its folder a hyphen."""
    names = [*CARS[:3], "Ram C/V Van"]
    raw.mkdir(parents=True)
    for part in ("train", "test"):
        lines = []
        for i in range(8):
            folder, file = names[i % 4].replace("/", "-"), f"{i + 1:05}.jpg"
            picture(raw / where / part / folder / file, i + 100 * (part == "test"))
            lines.append(f"{named(part, folder, file)},1,2,3,4,{i % 4 + 1}")
        (raw / f"anno_{part}.csv").write_text("\n".join(lines) + "\n")
    (raw / "names.csv").write_text("\n".join(names) + "\n")
    return raw


@pytest.mark.parametrize("where", ["car_data/car_data", "car_data", "."])
@pytest.mark.parametrize(
    "named",
    [
        lambda part, folder, file: file,
        lambda part, folder, file: f"car_data/car_data/{part}/{folder}/{file}",
        lambda part, folder, file: f"{part}\\{folder}\\{file}",
        lambda part, folder, file: f"{part}/{file}",
    ],
    ids=["bare", "path", "windows", "part"],
)
def test_cars_by_classes(tmp_path, where, named):
    items = READERS["cars"](make_by_classes(tmp_path / "raw", where, named))
    assert len(items) == 16
    assert (items[0].image_id, items[0].class_name, items[0].source_path) == (1, "Car 0", "train/Car 0/00001.jpg")
    assert items[-1].class_name == "Ram C/V Van"
    assert items[-1].source_path == "test/Ram C-V Van/00008.jpg"
    items[-1].open().close()


def test_cars_takes_the_form_whose_images_are_there(tmp_path):
    raw = make_by_classes(make_devkit(tmp_path / "raw") / "more")
    shutil.copy(make_cars(tmp_path / "other") / "cars_annos.mat", tmp_path / "raw")
    assert READERS["cars"](tmp_path / "raw")[0].source_path == "cars_train/00001.jpg"
    shutil.rmtree(tmp_path / "raw" / "cars_test")
    assert READERS["cars"](tmp_path / "raw")[0].source_path == "train/Car 0/00001.jpg"
    (raw / "names.csv").unlink()
    with pytest.raises(UserError) as caught:
        READERS["cars"](tmp_path / "raw")
    for part in (
        "recognized cars_annos.mat (car_ims/): car_ims/000000.jpg: listed but absent (and 11 more)",
        "cars_test/00001.jpg: listed but absent (and 7 more); 8 of 16 listed images are there",
        "recognized anno_train.csv and anno_test.csv (train/<class>/, test/<class>/): no names.csv; put that there",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"{'x' * 140_000},1", "anno_test.csv: line 2: field larger than field limit (131072); mend the line"),
        ("00001.jpg", "anno_test.csv: line 2: '00001.jpg' does not end in a class id; mend the line"),
        ("7", "anno_test.csv: line 2: class 7 is out of range"),
    ],
    ids=["long", "bare", "one"],
)
def test_a_line_that_is_none_is_named(tmp_path, line, expected):
    raw = make_by_classes(tmp_path / "raw")
    first, *others = (raw / "anno_test.csv").read_text().splitlines()
    (raw / "anno_test.csv").write_text("\n".join([first, line, *others]))
    with pytest.raises(UserError) as caught:
        READERS["cars"](raw)
    assert expected in str(caught.value)


@pytest.mark.parametrize("name", ["cars_train", "cars_test"])
def test_doubled_folders_and_names_of_second_downloads(tmp_path, name):
    raw = make_devkit(tmp_path / "raw")
    (raw / name).rename(raw / "inner")
    (raw / name).mkdir()
    (raw / "inner").rename(raw / name / name)
    lists = raw / "cars_test_annos_withlabels.mat"
    lists.rename(raw / "cars_test_annos_withlabels (1).mat")
    assert len(READERS["cars"](raw)) == 16
    merged = make_cars(tmp_path / "merged")
    (merged / "car_ims").rename(merged / "x")
    (merged / "car_ims").mkdir()
    (merged / "x").rename(merged / "car_ims" / "Car_Ims")
    assert len(READERS["cars"](merged)) == 12


ENCODINGS = {
    "utf-8 with mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "utf-16": lambda text: text.encode("utf-16"),
    "utf-16 big-endian": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "utf-16 without mark": lambda text: text.encode("utf-16-le"),
    "old Macintosh": lambda text: text.replace("\n", "\r").encode(),
    "windows": lambda text: text.replace("\n", "\r\n").replace("/", "\\").encode() + b"\x1a",
    "other case": lambda text: text.upper().encode(),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(("reader", "make"), [("cub", make_cub), ("sop", make_sop)])
def test_lists_from_any_system(tmp_path, reader, make, encoding):
    root = make(tmp_path / "raw")
    before = [item.file for item in READERS[reader](tmp_path / "raw")]
    for path in root.glob("*.txt"):
        path.write_bytes(ENCODINGS[encoding](path.read_text()))
        path.rename(path.with_name(path.name.upper() if encoding == "other case" else path.name))
    assert [item.file for item in READERS[reader](tmp_path / "raw")] == before


def test_a_list_in_windows_letters(tmp_path):
    root = make_cub(tmp_path / "raw")
    (root / "classes.txt").write_bytes(
        (root / "classes.txt").read_text().replace("Bird_0", "Grünspecht").encode("cp1252")
    )
    assert READERS["cub"](tmp_path / "raw")[0].class_name == "001.Grünspecht"


# Archives ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "data" / "raw" / "own"
    folder.mkdir(parents=True)
    return folder


def packed(*entries):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, inner in entries:
            file.writestr(name, inner)
    return content.getvalue()


def test_archives_inside_an_archive_and_one_per_class(raw):
    zipped(
        raw / "all.zip", ("birds/crow.zip", packed(("0.png", b"c"))), ("birds/gull.zip", packed(("gull/0.png", b"g")))
    )
    zipped(raw / "wren.zip", ("0.png", b"w"))
    zipped(raw / "finch.zip", ("0.png", b"f"))
    assert unpack(raw)[1] == {
        "birds/crow/0.png": b"c", "birds/gull/0.png": b"g", "wren/0.png": b"w", "finch/0.png": b"f"
    }  # fmt: skip


def test_a_zip_with_backslashes_and_one_left_beside_its_contents(raw):
    zipped(raw / "birds.zip", ("birds\\crow\\0.png", b"c"), ("__MACOSX\\birds\\._0.png", b"x"))
    (raw / "birds" / "crow").mkdir(parents=True)
    (raw / "birds" / "crow" / "0.png").write_bytes(b"c")
    (raw / "birds" / "crow" / "1.png").write_bytes(b"added by hand")
    found = unpack(raw)[1]
    assert found["birds/crow/0.png"] == b"c"
    assert found["birds/crow/1.png"] == b"added by hand"
    (raw / "birds" / "crow" / "0.png").write_bytes(b"edited")
    with pytest.raises(
        UserError, match=r"0.png is also in an archive beside it, with other contents; unpack it by hand"
    ):
        unpack(raw)


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [(8, 9, "Deflate64"), (8, 14, "LZMA"), (8, 99, "another method"), (6, 1, "protected by a password")],
)
def test_a_zip_that_cannot_be_unpacked_is_not_called_damaged(raw, place, value, expected):
    content = bytearray(packed(("a/0.png", b"abc")))
    for start, shift in ((b"PK\3\4", 0), (b"PK\1\2", 2)):
        at = content.index(start) + place + shift
        content[at : at + 2] = value.to_bytes(2, "little")
    (raw / "outer.zip").write_bytes(packed(("inner.zip", bytes(content))))
    with pytest.raises(UserError) as caught:
        unpack(raw)
    message = str(caught.value)
    assert "outer.zip: inner.zip: entry 'a/0.png' is " in message
    assert expected in message
    assert "may well be whole: unpack it by hand" in message
    assert not any(word in message for word in ("damage", "download", "readable", "delete"))
