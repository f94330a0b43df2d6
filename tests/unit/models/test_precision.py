"""Number formats: what computes in them, what comes out, and what a format does not exist for."""

import pandas as pd
import pytest
import torch

from stages.core.models import BACKBONES, Embedder
from stages.runtime.device import in_precision
from stages.runtime.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture
def embedder():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Embedder(BACKBONES["digits_cnn"], channels=1, side=8, dimension=16).eval()


@pytest.fixture
def images():
    return torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def test_float32_is_the_model_itself(embedder):
    assert in_precision(embedder, "fp32", CPU, "") is embedder
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.backends.cudnn.allow_tf32


def test_bfloat16_rounds_inside_and_gives_float32_unit_vectors_and_gradients(embedder, images):
    rounded = in_precision(embedder, "bf16", CPU, "")
    images.requires_grad_(True)
    embeddings = rounded(images)
    assert embeddings.dtype == torch.float32
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(6), atol=1e-6)
    exact = embedder(images.detach())
    assert 1e-5 < (embeddings - exact).norm(dim=1).max() < 0.05
    embeddings[:, 0].sum().backward()
    assert images.grad.dtype == torch.float32
    assert all(parameter.grad.dtype == torch.float32 for parameter in embedder.parameters())
    assert {value.dtype for value in embedder.state_dict().values()} == {torch.float32}


def test_a_wrapped_model_keeps_its_frozen_statistics():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Embedder(BACKBONES["resnet18"], channels=3, side=32, dimension=8)
    before = model.network.bn1.running_mean.clone()
    in_precision(model, "bf16", CPU, "").train()(torch.rand(4, 3, 32, 32))
    assert torch.equal(model.network.bn1.running_mean, before)


def test_tf32_is_for_gpus(embedder):
    with pytest.raises(UserError, match=r"datasets.digits.precision: tf32 is a format of GPUs; write fp32 or bf16"):
        in_precision(embedder, "tf32", CPU, "datasets.digits.precision")


def test_a_study_in_bfloat16_runs_and_says_so_in_one_line_where_it_cannot(tiny):
    def lower(params):
        params["run"] |= {"attacks": ["qa_plus"]}
        params["datasets"]["digits"]["precision"] = "bf16"
        params["datasets"]["digits"]["training"] |= {"precision": "bf16", "epochs": 1}

    tiny.edit(lower)
    for words in (("prepare",), ("validate",), ("train", "ca_tride", 0), ("evaluate", "ca_tride", 0)):
        tiny.stage(words[0], "digits", *words[1:])
    tiny.stage("attack", "digits", "ca_tride", 0, "qa_plus")
    table = pd.read_parquet(tiny.folder / "results/digits/ca_tride/0/qa_plus.parquet")
    assert table["zero_gradients"].mean() < 0.2
    tiny.edit(lambda params: params["datasets"]["digits"].update(precision="tf32"))
    refused = tiny.stage("evaluate", "digits", "ca_tride", 0, check=False)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith(
        "evaluate: params.yaml: datasets.digits.precision: tf32 is a format"
    )
