"""A model that is not one function of each image is told apart from rounding, in every float format."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stages.core.backbones.resnet import resnet18
from stages.core.models import BACKBONES, Bfloat16, Embedder, OwnModel
from stages.core.selfchecks import not_a_function
from stages.models import own_models
from stages.runtime.errors import UserError

IMAGES = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
FORMATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.fixture(autouse=True)
def seed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def network():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 16)).eval()


class Around(nn.Module):
    """A network with something done before or after it."""

    def __init__(self, before=lambda images: images, after=lambda embeddings: embeddings, inner=None):
        super().__init__()
        self.inner, self.before, self.after = inner or network(), before, after

    def forward(self, images):
        return self.after(self.inner(self.before(images)))


class Casting(Around):
    """Computes in another format, and may hide that in what it returns."""

    def __init__(self, dtype, result=None, **more):
        super().__init__(**more)
        self.dtype, self.result = dtype, result or dtype
        self.inner.to(dtype)

    def forward(self, images):
        return super().forward(images.to(self.dtype)).to(self.result)


FUNCTIONS = {
    "plain": network,
    "traced": lambda: torch.jit.trace(network(), IMAGES),
    "half inside": lambda: Casting(torch.float16, torch.float32),
    "autocast inside": lambda: Around(after=lambda e: e.float(), inner=Bfloat16(network())),
    "a backbone": lambda: resnet18(1, 8, 16).eval(),
    "an embedder": lambda: Embedder(BACKBONES["efficientnet_lite0"], channels=1, side=8, dimension=16).eval(),
} | {str(dtype): lambda dtype=dtype: Casting(dtype) for dtype in FORMATS}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_rounding_is_let_through(name):
    assert not_a_function(OwnModel(FUNCTIONS[name]()), IMAGES) == ""


def test_the_random_generator_is_left_as_it_was():
    model, before = RANDOMIZED["dropout"](), torch.get_rng_state()
    assert not_a_function(model, IMAGES)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
def test_compiled_networks_are_let_through_and_seen_through():
    assert not_a_function(torch.compile(network()), IMAGES) == ""
    assert "batch-dependent" in not_a_function(torch.compile(network().train()), IMAGES)


def drawn(images):
    return images + 0.01 * torch.randn_like(images)


def seeded(images):
    """The same noise at each call, so that an image's own hangs on its place in the batch."""
    return images + 0.1 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))


def sometimes(images):
    return drawn(images) if images.requires_grad else images


RANDOMIZED = {
    "dropout": lambda: Around(after=F.dropout),
    "noise on pixels": lambda: Around(before=drawn),
    "noise while attacked": lambda: Around(before=sometimes),
    "faint noise": lambda: Around(after=lambda e: e + 1e-3 * e.norm(dim=1, keepdim=True) * torch.randn_like(e)),
    "a random crop": lambda: Around(before=lambda x: x.roll(int(torch.randint(8, ())), 3)),
    "noise in half precision": lambda: Casting(torch.float16, before=drawn),
    "noise in bfloat16": lambda: Casting(torch.bfloat16, before=lambda x: x + 0.05 * torch.randn_like(x)),
}
BATCH_DEPENDENT = {
    "BatchNorm in training mode": lambda: network().train(),
    "the mean of the batch": lambda: Around(after=lambda e: e - e.mean(0)),
    "the norm of the batch": lambda: Around(before=lambda x: x / x.amax(), after=lambda e: e + 1),
    "seeded noise": lambda: Around(before=seeded),
    "attention over the batch": lambda: Around(after=lambda e: (e @ e.T).softmax(dim=1) @ e),
    "one image alone": lambda: Around(after=torch.squeeze),
    "no batch but of 16": lambda: Around(before=lambda x: x.view(16, 1, 8, 8)),
    "BatchNorm in float64": lambda: Casting(torch.float64, inner=network().train()),
    "BatchNorm in bfloat16": lambda: Casting(torch.bfloat16, inner=network().train()),
}


class Training(OwnModel):
    """As a network behaves whose own `train` hangs on to training mode."""

    def __init__(self, inner):
        super().__init__(inner)
        self.network = inner
        for layer in inner.modules():
            layer.training = isinstance(layer, nn.BatchNorm1d) or layer.training


@pytest.mark.parametrize("name", RANDOMIZED)
def test_randomized_models_are_named(name):
    assert not_a_function(OwnModel(RANDOMIZED[name]()), IMAGES).startswith("it is randomized: two calls on the same")


@pytest.mark.parametrize("name", BATCH_DEPENDENT)
def test_batch_dependent_models_are_named(name):
    assert not_a_function(BATCH_DEPENDENT[name](), IMAGES).startswith("it is batch-dependent: ")


def test_infinite_embeddings_are_named():
    model = OwnModel(Casting(torch.float16, before=lambda x: x * 60000, after=lambda e: e * 60000))
    assert not_a_function(model, IMAGES) == "some embeddings are not finite numbers"


def test_few_images_will_do():
    for count in (1, 2, 5, 6):
        assert not_a_function(OwnModel(network()), IMAGES[:count]) == ""


def test_the_line_names_the_key_and_the_layer():
    with pytest.raises(
        UserError, match=r"^params.yaml: defenses.x.model: .* batch-dependent.*\(layer 2 is in training mode"
    ):
        own_models.check(Training(network()), IMAGES, "defenses.x.model")
    with pytest.raises(UserError, match=r"defenses.x.model: .*it fails on 16 images \(too many\)"):
        own_models.check(Around(before=fails), IMAGES, "defenses.x.model")


def fails(images):
    raise RuntimeError("\x1b[31mtoo many\x1b[0m\nat line 3")
