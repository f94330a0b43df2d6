"""Hostile images, arrays, tables, checkpoints and reports."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from hostile_world import FUZZ, WATCH, WORDS, answer, cases, damaged
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stages.data.annotations import Item, open_image
from stages.data.decoding import decode
from stages.data.splits import read_manifest, read_pixels
from stages.models import checkpoints
from stages.runtime import checksums
from stages.runtime.arrays import read_array

pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow warns of damaged headers that it goes on with


def picture_bytes(suffix, mode="RGB"):
    pixels = np.random.default_rng(0).integers(0, 255, (9, 7, 3), dtype=np.uint8)
    content = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).convert(mode).save(
        content, suffix, **({"exif": exif} if suffix in ("JPEG", "TIFF") else {})
    )
    return content.getvalue()


PICTURES = [picture_bytes(kind) for kind in ("JPEG", "PNG", "BMP", "WEBP", "TIFF")] + [
    picture_bytes("PNG", "P"), picture_bytes("TIFF", "CMYK"), picture_bytes("PNG", "I;16"), picture_bytes("PNG", "LA")
]  # fmt: skip


def decode_file(path):
    from functools import partial

    pixels = decode(Item(0, 0, "x", path.name, partial(open_image, path), path), 4, 3).pixels
    assert pixels.shape == (4, 4, 3)


@cases(2500)
@given(damaged(st.sampled_from(PICTURES)))
def test_images(place, content):
    path = place / "x.jpg"
    path.write_bytes(content)
    answer(place, decode_file, path)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(/tmp/hit) (w) file\n%%EOF\n"


def test_an_image_that_other_programs_would_have_to_draw_is_refused(place):
    """Pillow would hand PostScript called .jpg to Ghostscript."""
    (place / "x.jpg").write_bytes(EPS)
    assert "x.jpg: cannot be decoded (a PostScript file, which is not read" in answer(
        place, decode_file, place / "x.jpg"
    )


@pytest.mark.parametrize("side", [10_000, 14_000, 60_000])
def test_an_image_of_too_many_pixels_is_refused_by_its_header(place, side):
    import warnings

    content = bytearray(picture_bytes("PNG"))
    content[16:24] = side.to_bytes(4, "big") * 2
    import zlib

    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    (place / "x.png").write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # as prepare sets it
        assert "exceeds limit" in answer(place, decode_file, place / "x.png")


def array_bytes(array):
    content = io.BytesIO()
    np.save(content, array, allow_pickle=array.dtype == object)
    return content.getvalue()


ARRAYS = [array_bytes(np.zeros((3, 4, 4, 1), np.uint8)), array_bytes(np.ones((5, 3), np.float32))]
SHAPES = st.text("(){}[]',: 0123456789-eLTrueFalsdscpfortan_hk<|u", max_size=60)


@st.composite
def array_headers(draw):
    """An array file whose header says something else."""
    text = draw(SHAPES | st.sampled_from(["(" * 300, "{'descr': '|O', 'fortran_order': False, 'shape': (9,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 9), }",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (9999999999999999999, 9, 9, 3), }"]))  # fmt: skip
    content = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(content).to_bytes(2, "little") + content + draw(st.binary(max_size=99))


@cases(2000)
@given(damaged(st.sampled_from(ARRAYS)) | array_headers())
def test_arrays(place, content):
    path = place / "x.npy"
    path.write_bytes(content)
    answer(place, read_pixels, path)
    answer(place, read_array, path)


def test_an_array_of_objects_is_not_unpickled(place):
    path = place / "x.npy"
    path.write_bytes(array_bytes(np.array([Hit()], dtype=object)))
    assert "x.npy: damaged" in answer(place, read_array, path)


class Hit:
    """Would leave a file if it were unpickled."""

    def __reduce__(self):
        return (open, ("hit", "w"))


def manifest():
    return pd.DataFrame({
        "image_id": [0, 1], "label": [0, 1], "class_name": ["a", "b"], "split": ["train", "test"],
        "source_path": ["a/1", "b/1"], "width": [4, 4], "height": [4, 4], "sha256": ["0" * 64, "1" * 64],
    })  # fmt: skip


def parquet_bytes(table):
    content = io.BytesIO()
    checksums.sign(table).to_parquet(content, index=False)
    return content.getvalue()


CELLS = st.lists(st.none() | st.integers() | st.floats() | WORDS | st.binary(max_size=2), min_size=2, max_size=2)


@st.composite
def manifests(draw):
    """A manifest with a column of something else, or without it."""
    table = manifest()
    name = draw(st.sampled_from(list(table)))
    if draw(st.booleans()):
        return parquet_bytes(table.drop(columns=name))
    try:
        return parquet_bytes(table.assign(**{name: draw(CELLS)}))
    except (ValueError, TypeError, OverflowError, UnicodeError):  # what parquet itself cannot hold
        return b""


@cases(1500)
@given(damaged(parquet_bytes(manifest())) | manifests())
def test_manifests(place, content):
    path = place / "x.parquet"
    path.write_bytes(content)
    found = answer(place, read_manifest, path)
    if not isinstance(found, str):
        assert found["label"].to_numpy(dtype=np.int64).shape == found["image_id"].to_numpy(dtype=np.int64).shape


@pytest.fixture(scope="module")
def checkpoint(place):
    """The bytes of a small model."""
    architecture = checkpoints.Architecture("c2f2", 1, 8, 8, True)
    checkpoints.save(checkpoints.build(architecture), architecture, place / "good.safetensors")
    return (place / "good.safetensors").read_bytes()


JUNK_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | WORDS.map(lambda word: word.encode("ascii", "replace").decode()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3),
    max_leaves=4,
)
ARCHITECTURES = st.fixed_dictionaries({
    "backbone": st.sampled_from(["c2f2", "resnet50", "nope", "__class__"]) | JUNK_VALUES,
    "channels": st.sampled_from([1, 3]) | JUNK_VALUES, "side": st.sampled_from([8, 2**40]) | JUNK_VALUES,
    "embedding_dim": st.sampled_from([8, 10**9]) | JUNK_VALUES, "freeze_batchnorm": st.booleans() | JUNK_VALUES,
})  # fmt: skip


@cases(1200)
@given(st.data())
def test_checkpoints(place, checkpoint, data):
    content = data.draw(damaged(checkpoint) | ARCHITECTURES.map(lambda one: with_architecture(checkpoint, one)))
    path = place / "x.safetensors"
    path.write_bytes(content)
    answer(place, checkpoints.load, path)


def with_architecture(content, architecture):
    """A checkpoint whose header describes another network."""
    size = int.from_bytes(content[:8], "little")
    head = json.loads(content[8 : 8 + size])
    head["__metadata__"]["architecture"] = json.dumps(architecture)
    text = json.dumps(head).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


@cases(2500)
@given(st.data())
def test_reports(place, data):
    path = place / "x.json"
    checksums.dump({"inputs": {"a": "b"}, "metrics": {"recall_at_1": 90.5}}, path)
    whole = path.read_bytes()
    path.write_bytes(data.draw(damaged(whole) | JUNK_VALUES.map(lambda one: json.dumps(one).encode())))
    found = answer(place, checksums.load, path, "metrics")
    assert isinstance(found, str) or found["metrics"] == {"recall_at_1": 90.5}


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 900 + "1" + "}" * 900, '{"sha256": NaN}'])
def test_deep_reports(place, text):
    (place / "x.json").write_text(text)
    assert "x.json: " in answer(place, checksums.load, place / "x.json")


@pytest.mark.skipif(not FUZZ, reason="`make fuzz`")
def test_over_20000_cases_were_drawn():
    print(f"\n{WATCH.cases} hostile cases in process, nothing written outside the project, no program started")
    assert WATCH.cases > 20_000
