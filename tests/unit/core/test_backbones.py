"""Networks: shapes, sizes, and equality with the implementations whose weights they take."""

import pytest
import torch
from torch import nn

from stages.core.backbones.efficientnet import efficientnet_lite0
from stages.core.backbones.resnet import resnet18, resnet50
from stages.core.models import BACKBONES, Embedder
from stages.runtime import registries

NORMED = ["resnet18", "resnet50", "efficientnet_lite0"]


def built(name, channels=3, side=32, dimension=8):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Embedder(BACKBONES[name], channels=channels, side=side, dimension=dimension)


def disturb(network):
    """Running statistics, scales and shifts that are not the neutral ones, so that a mix-up shows."""
    draw = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values, low, high in (
                (module.running_mean, -0.1, 0.1),
                (module.running_var, 0.5, 1.5),
                (module.weight.data, 0.3, 0.8),
                (module.bias.data, -0.1, 0.1),
            ):
                values.copy_(low + (high - low) * torch.rand(values.shape, generator=draw))
    return network


@pytest.mark.parametrize("side", [8, 28, 33])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", list(BACKBONES))
def test_embeddings_of_any_side_and_of_grey_or_colour(name, channels, side):
    model = built(name, channels, side).eval()
    images = torch.rand(2, channels, side, side, requires_grad=True)
    embeddings = model(images)
    assert embeddings.shape == (2, 8)
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(2))
    embeddings[:, 0].sum().backward()
    assert images.grad.shape == images.shape
    assert images.grad.abs().sum() > 0


@pytest.mark.parametrize("name", NORMED)
def test_grey_images_are_embedded_as_the_same_image_in_three_channels(name):
    grey = torch.rand(2, 1, 32, 32)
    model = built(name, channels=1).eval()
    assert torch.equal(model(grey), model(grey.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize(
    ("build", "count"), [(resnet18, 11_689_512), (resnet50, 25_557_032), (efficientnet_lite0, 4_652_008)]
)
def test_parameter_counts_with_a_thousand_classes(build, count):
    assert sum(parameter.numel() for parameter in build(3, 224, 1000).parameters()) == count


def test_c2f2_is_the_network_of_the_reference():
    shapes = [tuple(parameter.shape) for parameter in built("c2f2", 1, 28, 512).network.parameters()]
    assert shapes[0::2] == [(32, 1, 5, 5), (64, 32, 5, 5), (1024, 64 * 7 * 7), (512, 1024)]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_c2f2_pools_before_relu_with_the_bytes_of_the_reference_order(precision):
    model = built("c2f2", 1, 28, 16)
    conv1, pool1, relu1, conv2, pool2, relu2, *rest = model.network
    assert [type(layer) for layer in (pool1, relu1, pool2, relu2)] == [nn.MaxPool2d, nn.ReLU] * 2
    reference = nn.Sequential(conv1, relu1, pool1, conv2, relu2, pool2, *rest)

    def values_and_gradients(network):
        images = torch.rand(6, 1, 28, 28, generator=torch.Generator().manual_seed(1)).requires_grad_(True)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            features = network(images)
        return features, *torch.autograd.grad(features.float().square().sum(), (images, *network.parameters()))

    for own, other in zip(values_and_gradients(model.network), values_and_gradients(reference), strict=True):
        assert torch.equal(own, other)
        assert own.any()


@pytest.mark.parametrize("name", NORMED)
def test_frozen_statistics_stay_while_scale_and_shift_train(name):
    model = built(name).train()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    before = {key: value.clone() for key, value in model.named_buffers()}
    model(torch.rand(4, 3, 32, 32))[:, 0].sum().backward()
    assert all(torch.equal(value, before[key]) for key, value in model.named_buffers())
    assert all(norm.weight.grad is not None and norm.bias.grad is not None for norm in norms)
    assert sum(norm.weight.grad.abs().sum() for norm in norms) > 0
    model.freeze_batchnorm = False
    model.train()(torch.rand(4, 3, 32, 32))
    assert all(not torch.equal(norm.running_mean, torch.zeros_like(norm.running_mean)) for norm in norms)


@pytest.mark.parametrize("name", NORMED)
def test_an_untrained_network_keeps_the_size_of_its_signal(name):
    """A wrong initialisation shows as features that vanish or explode."""
    features = built(name).network.eval()(torch.randn(8, 3, 64, 64))
    assert 1e-3 < features.std() < 1e3


def test_the_source_says_which_backbones_have_weights():
    assert registries.pretrained_backbones() == [name for name, backbone in BACKBONES.items() if backbone.weights]
    for name in registries.pretrained_backbones():
        head = BACKBONES[name].weights.head
        assert isinstance(built(name, dimension=5).network.get_submodule(head), nn.Linear)


@pytest.mark.parametrize("side", [32, 64, 97])
def test_efficientnet_equals_the_package(side):
    package = pytest.importorskip("efficientnet_lite_pytorch", reason="pip install -e '.[dev]'")
    # Without an image size the package pads by the side at hand, as we do; its default pads as for 224 pixels.
    theirs = disturb(package.EfficientNet.from_name("efficientnet-lite0", image_size=None)).eval()
    ours = efficientnet_lite0(3, side, 1000).eval()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(ours(images), theirs(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("build", [resnet18, resnet50])
def test_resnet_equals_torchvision(build):
    try:
        from torchvision import models
    except Exception as error:  # a wheel of torchvision beside another build of torch fails in its own ways
        pytest.skip(f"torchvision does not import: {error}")
    theirs = disturb(getattr(models, build.__name__)(weights=None)).eval()
    ours = build(3, 64, 1000).eval()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 65, 65, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(ours(images), theirs(images), rtol=1e-4, atol=1e-5)
