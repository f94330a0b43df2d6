"""Hostile parameters, words and lists. `make fuzz` draws over 20,000 cases with those of test_hostile_files.py."""

import contextlib
import copy
import io
import json
import struct
from pathlib import Path

import pytest
import yaml
from hostile_world import WATCH, WORDS, answer, cases, damaged
from hypothesis import given
from hypothesis import strategies as st
from original_files import make_cars, make_cub, make_sop

from stages.data.readers import READERS
from stages.runtime import cli, params
from stages.runtime.errors import UserError


def small_params():
    """params.yaml with one block of most kinds: as many keys to attack in a tenth of the time."""
    loaded = copy.deepcopy(params.load(Path(__file__).parents[2] / "params.yaml"))
    loaded["datasets"] = {name: loaded["datasets"][name] for name in ("digits", "cub")}
    loaded["defenses"] = {name: loaded["defenses"][name] for name in loaded["run"]["defenses"]}
    rows = loaded["tables"]["main"]["rows"]
    loaded["tables"] = {
        "main": loaded["tables"]["main"] | {"rows": {n: r for n, r in rows.items() if n in loaded["defenses"]}}
    }
    for block in loaded["attacks"].values():
        block["alpha_over_eps"] = 0.375
    for block in loaded["defenses"].values():
        options = block.get("options", {})
        block["options"] = {
            key: value["default"] if isinstance(value, dict) else value for key, value in options.items()
        }
    params.check(loaded)
    return loaded


def short_params():
    """params.yaml as it is written, with what blocks are written in short, and no papers."""
    own = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
    own |= {"papers": [], "tables": {"mine": {"extends": "table", "title": "Mine"}}}
    own["defenses"]["x"] = {"extends": "act", "grid": {"options.steps": [2, 4], "miner": {"r": "random"}}}
    return own


SMALL, SHORT = small_params(), short_params()
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.sampled_from([0, -1, 2**63, 10**30, 1e308, 1e-300])
    | st.floats() | WORDS | st.binary(max_size=3) | st.dates()
)  # fmt: skip
JUNK = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.integers() | st.none(), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def broken_params(draw, whole=SMALL):
    """The parameters with some values replaced, keys renamed, added or left out anywhere."""
    loaded = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        here = loaded
        while True:
            keys = list(here) if isinstance(here, dict) else range(len(here))
            if not keys:
                break
            key = draw(st.sampled_from(list(keys)))
            if isinstance(here[key], dict | list) and here[key] and draw(st.integers(0, 5)):
                here = here[key]
                continue
            how = draw(st.sampled_from(["replace", "rename", "drop", "add"]))
            if how == "replace" or isinstance(here, list):
                here[key] = draw(JUNK)
            elif how == "rename":
                here[draw(WORDS | SCALARS.filter(lambda one: one.__hash__))] = here.pop(key)
            elif how == "drop":
                del here[key]
            else:
                here[draw(WORDS)] = draw(JUNK | st.just(here[key]))
            break
    return loaded


def checked(loaded):
    """Accepted parameters: every word that a path or a command is built from is a plain name."""
    params.check(loaded)
    for kind in ("datasets", "defenses", "attacks", "tables"):
        for name in loaded[kind]:
            assert name.isascii()
            assert name.replace("_", "a").isalnum()
            assert len(name) <= 64
    for block in loaded["datasets"].values():
        for source in block.get("fetch", []):
            from stages.data.download import file_name

            assert Path("folder", file_name(source)).resolve().parent == Path("folder").resolve()


@cases(7000)
@given(broken_params())
def test_params_with_anything_anywhere(place, loaded):
    answer(place, checked, loaded)


@cases(1500)
@given(broken_params(SHORT))
def test_params_in_short_with_anything_anywhere(place, own):
    path = place / "params.yaml"
    path.write_text(yaml.safe_dump(own, sort_keys=False))
    answer(place, params.load, path)


@cases(3000)
@given(damaged(yaml.safe_dump(SMALL).encode()))
def test_damaged_yaml(place, content):
    path = place / "params.yaml"
    path.write_bytes(content)
    answer(place, params.load, path)


TAGS = [
    "!!bool", "!!timestamp", "!!int", "!!float", "!!set", "!!omap", "!!pairs", "!!binary", "!!null", "!!merge", "!x",
    "!!python/object/apply:os.system", "!!python/name:os.system", "!!python/object/new:subprocess.Popen", "&a", "*a",
    "<<:", "? ", "- ", "[", "]", "{", "}", ": ", "\n", "  ", "|", ">", "%YAML 9.9\n", "---\n", "...", "0x", "1:2",
]  # fmt: skip


@cases(1500)
@given(st.lists(st.sampled_from(TAGS) | WORDS, max_size=12).map("".join))
def test_yaml_of_tags_and_signs(place, text):
    path = place / "params.yaml"
    path.write_text(text, errors="surrogateescape")
    assert isinstance(answer(place, params.load, path), str)


def test_yaml_that_swells_or_holds_itself_is_refused(place):
    laughs = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
        f"{one}: &{one} [{', '.join([f'*{before}'] * 9)}]\n" for before, one in zip("abcdefgh", "bcdefghi", strict=True)
    )
    for text in (laughs, "run: &a [*a]", "a: " + "[" * 5000, "a: " + "{a: " * 90):
        (place / "params.yaml").write_text(text)
        assert isinstance(answer(place, params.load, place / "params.yaml"), str)


KNOWN = ["digits", "cub", "vanilla", "act", "0", "qa_plus", "--help", "9" * 5000]


@cases(1500)
@given(st.lists(WORDS | st.sampled_from(KNOWN), max_size=5))
def test_words_reach_no_path_unless_they_are_names(place, words):
    (place / "params.yaml").write_text(json.dumps(SMALL))
    reached = []

    def attack(loaded, dataset, defense, seed, attack):
        reached.append((dataset, defense, seed, attack))
        return []

    said = io.StringIO()
    with WATCH.over(place), contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        code = 0
        try:
            cli.main(attack, words)
        except SystemExit as end:
            code = end.code
    cli.log.handlers.clear()
    assert isinstance(code, int) or code.isprintable()
    assert "Traceback" not in said.getvalue()
    for dataset, defense, seed, chosen in reached:
        assert dataset in SMALL["datasets"]
        assert defense in SMALL["defenses"]
        assert chosen in SMALL["attacks"]
        assert 0 <= seed < 2**32


@pytest.fixture(scope="module")
def birds(place):
    """A small CUB, and the bytes of its lists."""
    root = make_cub(place / "raw_cub")
    return {name: (root / name).read_bytes() for name in ("images.txt", "image_class_labels.txt", "classes.txt")}


def items(reader, raw):
    """Every item of a reader; all paths must stay below the folder."""
    for item in READERS[reader](raw):
        path = item.open.args[0]
        assert raw.resolve() in path.resolve().parents
        assert 0 <= item.image_id < 2**63


NUMBERS = st.integers(-2, 50) | st.sampled_from([2**63, 10**40])
LINES = st.lists(st.tuples(NUMBERS, WORDS).map(lambda pair: f"{pair[0]} {pair[1]}"), max_size=5).map(
    lambda lines: "\n".join(lines).encode(errors="surrogateescape")
)


@cases(2000)
@given(st.data())
def test_lists_of_birds(place, birds, data):
    root = place / "raw_cub" / "CUB_200_2011"
    for name, content in birds.items():
        (root / name).write_bytes(content)
    name = data.draw(st.sampled_from(list(birds)))
    (root / name).write_bytes(data.draw(damaged(birds[name]) | LINES))
    answer(place, items, "cub", place / "raw_cub")


@pytest.fixture(scope="module")
def products(place):
    root = make_sop(place / "raw_sop")
    return (root / "Ebay_train.txt").read_bytes()


@cases(1500)
@given(st.data())
def test_lists_of_products(place, products, data):
    path = place / "raw_sop" / "Stanford_Online_Products" / "Ebay_train.txt"
    line = st.tuples(st.integers(), st.integers(), st.integers(), WORDS).map(lambda row: " ".join(map(str, row)))
    lines = st.lists(line, max_size=3).map(lambda rows: "\n".join(rows).encode(errors="surrogateescape"))
    path.write_bytes(data.draw(damaged(products) | lines.map(lambda more: products + more)))
    answer(place, items, "sop", place / "raw_sop")


@pytest.fixture(scope="module")
def cars(place):
    return (make_cars(place / "raw_cars") / "cars_annos.mat").read_bytes()


@cases(80)
@given(st.data())
def test_matlab_files(place, cars, data):
    """Each is read by a process of its own, which takes half a second."""
    (place / "raw_cars" / "cars_annos.mat").write_bytes(data.draw(damaged(cars)))
    answer(place, items, "cars", place / "raw_cars", starts=True)


def nested_cells(depth):
    """A MATLAB file of a cell in a cell in a cell ...; deep ones crash scipy's parser."""
    inner = struct.pack("<IIIIIIiiIIIId", 6, 8, 6, 0, 5, 8, 1, 1, 1, 0, 9, 8, 1.0)
    inner, outer = struct.pack("<II", 14, len(inner)) + inner, []
    size = len(inner)
    for _ in range(depth):
        outer.append(struct.pack("<IIIIIIIIiiII", 14, 40 + size, 6, 8, 1, 0, 5, 8, 1, 1, 1, 0))
        size += 48
    named = bytearray(b"".join(reversed(outer)) + inner)
    named[40:48] = struct.pack("<HH4s", 1, 4, b"anno")
    return b"MATLAB 5.0".ljust(124) + struct.pack("<HH", 0x0100, 0x4D49) + bytes(named)


def test_a_matlab_file_that_crashes_its_parser_is_named(place, cars):
    deep = nested_cells(200_000).replace(b"anno", b"clas", 1)
    (place / "raw_cars" / "cars_annos.mat").write_bytes(deep)
    with pytest.raises(UserError, match=r"cars_annos.mat: (not a MATLAB file|no `class_names`)"):
        READERS["cars"](place / "raw_cars")
