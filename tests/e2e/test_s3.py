"""A DVC remote in an S3 bucket, on a server of this machine: `make test-s3`."""

import socket
import subprocess
import sys

import pytest
from engine_world import both_plan, git, run_snakemake, sync, trained, wait_for
from test_clone import clone_of, recorded

pytestmark = pytest.mark.s3
BUCKET = "study"


def free_port():
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        return any_port.getsockname()[1]


def answers(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def bucket(monkeypatch):
    """The address of an S3 server that has one empty bucket; keys in the environment, as S3's own tools read them."""
    boto3 = pytest.importorskip("boto3")
    pytest.importorskip("dvc_s3")
    pytest.importorskip("moto.server")
    for name, value in (("ACCESS_KEY_ID", "test"), ("SECRET_ACCESS_KEY", "test"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    port = free_port()
    command = (sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port))
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            wait_for(lambda: answers(port) or server.poll() is not None)
            url = f"http://127.0.0.1:{port}"
            boto3.client("s3", endpoint_url=url).create_bucket(Bucket=BUCKET)
            yield url
        finally:
            server.terminate()


def test_a_clone_pulls_a_study_from_a_bucket_and_nothing_reruns(study, bucket, tmp_path_factory):
    run_snakemake(study)
    study.run("dvc", "remote", "add", "-q", "-d", "store", f"s3://{BUCKET}/ca-tride")
    study.run("dvc", "remote", "modify", "-q", "store", "endpointurl", bucket)
    assert "pushed" in study.run("dvc", "push").stdout
    assert "up to date" in study.run("dvc", "push").stdout
    git(study, "add", "-A")
    git(study, "commit", "-qm", "results")
    assert not [name for name in recorded(study) if name.endswith((".safetensors", ".npy", ".parquet"))]

    clone = clone_of(study, tmp_path_factory.mktemp("clone") / "study")
    assert trained(clone) == {}
    assert "fetched" in clone.run("dvc", "pull").stdout
    made = ("data", "models", "results", "reports")
    assert clone.files(*made) == study.files(*made)
    sync(clone, "snakemake")  # which sets times
    before = trained(clone)
    assert len(before) == 2
    both_plan(clone, set())
    assert "up to date" in clone.run("dvc", "repro").stdout
    run_snakemake(clone)
    assert trained(clone) == before
    assert git(clone, "status", "--porcelain").stdout == ""
