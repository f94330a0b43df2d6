"""Original files as DVC imports: known by address, size and checksum, kept in a user's own remote.

None is committed here, because DVC never pulls an import with a checksum from its address, and every `dvc pull` and
`dvc checkout` of another study would end in an error for want of it.
"""

import hashlib
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml
from engine_world import git
from original_files import make_cub
from test_clone import clone_of

pytestmark = pytest.mark.engines
ARCHIVE = "data/raw/cub/CUB_200_2011.tgz"


class Publisher(BaseHTTPRequestHandler):
    """Serves one file under any name, with the ETag by which DVC tells versions apart."""

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.send_header("ETag", f'"{len(self.server.content)}"')
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        self.server.asked += 1
        self.wfile.write(self.server.content)

    def log_message(self, *args):
        """Say nothing."""


@pytest.fixture
def publisher(tmp_path_factory):
    """A server of a small archive in the layout of the birds."""
    folder = tmp_path_factory.mktemp("published")
    make_cub(folder)
    with tarfile.open(folder / "birds.tgz", "w:gz") as archive:
        archive.add(folder / "CUB_200_2011", "CUB_200_2011")
    with ThreadingHTTPServer(("127.0.0.1", 0), Publisher) as http:
        http.content, http.asked = (folder / "birds.tgz").read_bytes(), 0
        http.url = f"http://127.0.0.1:{http.server_port}/CUB_200_2011.tgz"
        http.md5 = hashlib.md5(http.content).hexdigest()
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield http
        http.shutdown()


@pytest.fixture
def birds(study, publisher):
    """A study of the birds, whose archive was imported."""

    def use(params):
        params["run"]["datasets"] = ["cub"]
        params["datasets"]["cub"] |= {
            "fetch": [{"url": publisher.url, "md5": publisher.md5}],
            "split": {"train": 2, "test": 2},
        }

    study.edit(use)
    study.run("dvc", "import-url", "-q", publisher.url, "data/raw/cub/")
    assert git(study, "status", "--porcelain", "-uall", "data").stdout.split() == ["??", f"{ARCHIVE}.dvc"]
    imported = yaml.safe_load((study.folder / f"{ARCHIVE}.dvc").read_text())
    (out,) = imported["outs"]
    assert (out["md5"], out["size"]) == (publisher.md5, len(publisher.content))
    assert imported["deps"][0]["path"] == publisher.url
    study.run("dvc", "repro", "-q", "prepare@cub")
    git(study, "add", "-A")
    git(study, "commit", "-qm", "birds")
    publisher.asked = 0
    return study


def test_a_clone_pulls_imported_originals_from_the_remote(birds, publisher, tmp_path_factory):
    birds.run("dvc", "remote", "add", "-q", "-d", "store", str(tmp_path_factory.mktemp("remote")))
    git(birds, "commit", "-qam", "remote")
    birds.run("dvc", "push", "-q")
    clone = clone_of(birds, tmp_path_factory.mktemp("clone") / "study")
    clone.run("dvc", "pull", "-q", ARCHIVE, "prepare@cub", "recipes")
    assert (clone.folder / ARCHIVE).read_bytes() == publisher.content
    assert publisher.asked == 0
    assert "didn't change, skipping" in clone.run("dvc", "repro", "prepare@cub").stdout
    assert git(clone, "status", "--porcelain").stdout == ""
    assert clone.stage("fetch", "cub").returncode == 0  # what DVC brought is what `fetch` would have
    assert publisher.asked == 0


def test_without_a_remote_update_fetches_anew_and_prepare_refuses_another_file(birds, publisher, tmp_path_factory):
    clone = clone_of(birds, tmp_path_factory.mktemp("clone") / "study")
    refused = clone.run("dvc", "pull", ARCHIVE, check=False)
    assert refused.returncode == 1  # why no import is committed: DVC does not go to the address
    assert "Checkout failed" in refused.stderr
    assert publisher.asked == 0

    clone.run("dvc", "update", "-q", f"{ARCHIVE}.dvc")
    assert publisher.asked
    assert git(clone, "status", "--porcelain").stdout == ""
    clone.run("dvc", "repro", "-q", "prepare@cub")

    publisher.content = b"\x1f\x8b another archive"
    clone.run("dvc", "update", "-q", f"{ARCHIVE}.dvc")
    assert git(clone, "status", "--porcelain").stdout.split() == ["M", f"{ARCHIVE}.dvc"]
    refused = clone.run("dvc", "repro", "prepare@cub", check=False)
    assert refused.returncode != 0
    assert f"{ARCHIVE}: has md5" in refused.stderr
    assert f"expected md5 {publisher.md5}" in refused.stderr
