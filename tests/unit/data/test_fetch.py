"""Downloads from a loopback server: whole, resumed, damaged, missing."""

import gzip
import hashlib
import io
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from original_files import make_cub

from stages.data.download import download, held, verify
from stages.runtime.errors import UserError

CONTENT = bytes(range(256)) * 20_000


class Server(BaseHTTPRequestHandler):
    """Serves CONTENT; paths choose how it misbehaves."""

    def do_GET(self):
        start = 0
        asked = self.headers.get("Range")
        self.server.asked.append((self.path, asked))
        if self.path.startswith("/gone"):
            self.send_error(404)
            return
        if self.path.startswith("/page"):
            self.reply(200, b"<!DOCTYPE html><html>Please log in</html>")
            return
        content = self.server.files.get(self.path, CONTENT)
        if self.path.startswith("/eager") and "gzip" in self.headers.get("Accept-Encoding", ""):
            self.reply(200, gzip.compress(content), headers={"Content-Encoding": "gzip"})
            return
        if asked and not self.path.startswith("/deaf"):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_error(416)
                return
        sent = content[start:]
        length = len(sent)
        if self.path.startswith("/breaks") and not asked:
            sent = sent[: length // 2]
        headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        self.reply(206 if start else 200, sent, length, headers)

    def reply(self, status, sent, length=None, headers=None):
        self.send_response(status)
        for name, value in ({"Content-Length": length or len(sent)} | (headers or {})).items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(sent)

    def log_message(self, *args):
        """Say nothing."""


@pytest.fixture
def server():
    """A server on a free loopback port, gone after the test."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as http:
        http.asked, http.files = [], {}
        http.url = f"http://127.0.0.1:{http.server_port}"
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield http
        http.shutdown()


def source(url, content=CONTENT, algorithm="sha256"):
    return {"url": url, algorithm: hashlib.new(algorithm, content).hexdigest()}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_a_download_is_verified_and_not_repeated(server, tmp_path, algorithm):
    what = source(f"{server.url}/a.tgz", algorithm=algorithm)
    for _ in range(2):
        assert download(what, tmp_path / "new").read_bytes() == CONTENT
    assert names(tmp_path / "new") == ["a.tgz"]
    assert len(server.asked) == 1


@pytest.mark.parametrize("path", ["/breaks.tgz", "/deaf-breaks.tgz"])
def test_a_broken_download_goes_on_where_it_stopped(server, tmp_path, path):
    what = source(server.url + path)
    (tmp_path / f".{path[1:]}.part").write_bytes(CONTENT[:1000])
    assert download(what, tmp_path).read_bytes() == CONTENT
    assert server.asked == [(path, "bytes=1000-")]
    assert names(tmp_path) == [path[1:]]


def test_a_server_that_compresses_what_it_sends_is_asked_not_to(server, tmp_path):
    assert download(source(f"{server.url}/eager.txt"), tmp_path).read_bytes() == CONTENT


def test_what_came_before_a_break_is_kept_for_the_next_run(server, tmp_path):
    what = source(f"{server.url}/breaks.tgz")
    with pytest.raises(UserError, match=r"/breaks.tgz: .*; run again, or get breaks.tgz \(sha256 "):
        download(what, tmp_path)
    assert (tmp_path / ".breaks.tgz.part").stat().st_size == len(CONTENT) // 2
    assert download(what, tmp_path).read_bytes() == CONTENT
    assert server.asked[1] == ("/breaks.tgz", f"bytes={len(CONTENT) // 2}-")


def test_a_download_killed_after_its_last_byte_is_taken(server, tmp_path):
    (tmp_path / ".a.tgz.part").write_bytes(CONTENT)
    assert download(source(f"{server.url}/a.tgz"), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("path", "content", "expected"),
    [
        ("/gone.tgz", CONTENT, "404"),
        ("/page.tgz", CONTENT, "what came is a web page, expected md5"),
        ("/a.tgz", b"other", "what came has md5"),
    ],
)
def test_what_cannot_be_had_says_what_to_get_by_hand(server, tmp_path, path, content, expected):
    what = source(server.url + path, content, "md5")
    with pytest.raises(UserError) as caught:
        download(what, tmp_path)
    message = str(caught.value)
    assert expected in message
    assert message.startswith(server.url)
    assert f"get {path[1:]} (md5 {what['md5']}) by hand, put it at {tmp_path / path[1:]}" in message
    assert "\n" not in message
    assert names(tmp_path) == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/a.tgz", "ftp://127.0.0.1/a.tgz", "http://no host/a.tgz"])
def test_servers_that_do_not_answer(tmp_path, url):
    with pytest.raises(UserError, match=r"; run again, or get a.tgz \(sha256"):
        download(source(url), tmp_path)


def test_a_file_got_by_hand_is_verified(tmp_path):
    (tmp_path / "a.tgz").write_bytes(b"something else")
    with pytest.raises(
        UserError, match=r"a.tgz: has sha256 .*, expected sha256 .*; put that file there, or .* another name"
    ):
        download(source("http://127.0.0.1:1/a.tgz"), tmp_path)


def test_a_zip_of_a_later_version_of_the_format_is_named_as_such(tmp_path):
    path = tmp_path / "copy.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("a.jpg", b"")
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 6] = 99  # the version that an entry of the list needs
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"copy\.zip: .*zip file version 9\.9"):
        verify(path, {"holds": {".jpg": 1}})


@pytest.fixture
def birds(project, tmp_path_factory, server):
    """A project whose dataset `birds` is to be fetched from the loopback server."""
    folder = tmp_path_factory.mktemp("birds")
    make_cub(folder)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as file:
        file.add(folder / "CUB_200_2011", "CUB_200_2011")
    server.files["/birds.tgz"] = packed.getvalue()

    def add(params):
        sizes = {"images": 6, "classes": 2}
        params["datasets"]["birds"] = params["datasets"]["cub"] | {
            "fetch": [source(f"{server.url}/birds.tgz", packed.getvalue())],
            "side": 12,
            "crop": 10,
            "split": {"train": 2, "test": 2},
            "expected": {"train": sizes, "test": sizes, "images_per_class": [3, 3], "duplicates_across_splits": 0},
        }

    project.edit(add)
    return project


def test_fetch_prepare_and_validate(birds):
    empty = birds.stage("prepare", "birds", check=False)
    assert "prepare: data/raw/birds: empty; run `python -m stages.fetch birds` or put the original" in empty.stderr
    done = birds.stage("fetch", "birds")
    assert "fetch: verified data/raw/birds/birds.tgz" in done.stderr
    birds.stage("prepare", "birds")
    birds.stage("validate", "birds")
    made = sorted(birds.files("data/birds"))
    assert made == ["data/birds/images.npy", "data/birds/manifest.parquet", "data/birds/validation.json"]


def test_prepare_refuses_an_archive_that_is_not_the_published_one(birds):
    raw = birds.folder / "data" / "raw" / "birds"
    raw.mkdir()
    (raw / "birds.tgz").write_bytes(b"<html>not found</html>")
    done = birds.stage("prepare", "birds", check=False)
    assert done.returncode == 1
    assert "prepare: data/raw/birds/birds.tgz: is a web page, expected sha256" in done.stderr
    assert birds.files("data/birds") == {}


def test_fetch_goes_on_after_a_dead_address(birds, server):
    birds.edit(lambda p: p["datasets"]["birds"]["fetch"].insert(0, source(f"{server.url}/gone.tgz")))
    done = birds.stage("fetch", "birds", check=False)
    assert done.returncode == 1
    assert "verified data/raw/birds/birds.tgz" in done.stderr
    assert "/gone.tgz: 404" in done.stderr.splitlines()[-1]


def test_a_dataset_without_addresses(project):
    done = project.stage("fetch", "digits", check=False)
    assert "fetch: params.yaml: datasets.digits: no `fetch` list; put the files into data/raw/digits" in done.stderr


def test_a_second_choice_is_taken_and_known_by_what_it_holds(birds, server, tmp_path_factory):
    import zipfile

    folder = tmp_path_factory.mktemp("zip")
    make_cub(folder)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for path in sorted(folder.rglob("*.*")):
            file.write(path, path.relative_to(folder))
    server.files["/api/download"] = packed.getvalue()

    def second(holds, path="/api/download?id=1&confirm=t"):
        def change(params):
            block = params["datasets"]["birds"]
            block["fetch"] = [source(f"{server.url}/gone.tgz")]
            block["fetch_instead"] = [{"url": server.url + path, "name": "copy.zip", "holds": holds}]

        return change

    server.files["/api/download?id=1&confirm=t"] = packed.getvalue()
    birds.edit(second({".JPG": 13, "images.txt": 1}))
    done = birds.stage("fetch", "birds", check=False)
    assert "what came holds 12 files *.JPG, expected a zip with 13 files *.JPG, 1 files *images.txt" in done.stderr
    assert "gone.tgz: 404" in done.stderr
    birds.edit(second({".jpg": 1}, "/page"))
    assert "what came is a web page" in birds.stage("fetch", "birds", check=False).stderr
    assert birds.files("data/raw/birds") == {}
    birds.edit(second({".JPG": 12, "images.txt": 1}))
    assert "verified data/raw/birds/copy.zip" in birds.stage("fetch", "birds").stderr
    server.asked.clear()
    birds.stage("fetch", "birds")
    assert server.asked == []
    birds.stage("prepare", "birds")


def test_a_zip_that_python_cannot_read_is_not_called_something_else(tmp_path):
    """One of a later version of the format is a zip, and so is one whose folder cannot be read."""
    path = tmp_path / "copy.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("a.jpg", b"")
    assert held(path, {".jpg": 1}) is None
    content = path.read_bytes()
    needed = content.rindex(b"PK\x01\x02") + 6  # "version needed to extract" of the entry in the directory
    path.write_bytes(content[:needed] + b"\x63" + content[needed + 1 :])
    assert held(path, {".jpg": 1}) == "cannot be read as a zip (zip file version 9.9)"
    assert held(tmp_path, {".jpg": 1}).startswith("cannot be read as a zip (")
    path.write_text("no archive")
    assert held(path, {".jpg": 1}).startswith("is no zip (")
