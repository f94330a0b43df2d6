"""Training in two processes: what each of them runs, and how they are started."""

import sys
from functools import partial

import torch
import torch.distributed as dist
from batch_world import EPS, embedder
from torch.multiprocessing import start_processes

from stages.core.defenses import DEFENSES
from stages.core.mining import MINERS
from stages.core.models import BACKBONES, Embedder
from stages.core.parallel import Sharded
from stages.core.training import TrainConfig, train

LABELS = torch.arange(3).repeat_interleave(10)
PAIRS = 14  # batches of 14, 14 and 2 pairs: shares are uneven, and of 4 rows a third process gets none
CASES = {
    "vanilla": {},
    "est_frozen": {"defense": "est"},
    "est": {"defense": "est", "freeze": False},
    "act": {"miner": "softhard"},
    "hm": {"miner": "softhard"},
    "hm_ics": {"defense": "hm", "ics_weight": 0.5, "miner": "softhard"},
    "tride": {"miner": "gradual_hard"},
    "ca_tride": {"miner": "gradual_hard"},
}


def study(name, group=None):
    """Two epochs of three steps of one case in float64: the weights and statistics, and the history."""
    options = dict(CASES[name])
    defense, miner = options.pop("defense", name), options.pop("miner", "random")
    pixels = torch.rand(30, 1, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    single = embedder(options.pop("freeze", True))
    model = single if group is None else Sharded(single, group)
    setting = TrainConfig(partial(DEFENSES[defense], **options), MINERS[miner], EPS, 10.0, 2, PAIRS, 1e-2, 4e-4, 0)
    rows = list(train(model, lambda batches, _: ((rows, pixels[rows]) for rows in batches), LABELS.numpy(), setting))
    return single.state_dict(), [tuple(row) for row in rows]


def split_network(name, freeze, group=None):
    """Embeddings of four images by a backbone, and the gradients of images, parameters and statistics in float64."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        single = Embedder(BACKBONES[name], channels=1, side=32, dimension=8, freeze_batchnorm=freeze).double().train()
        images = torch.rand(4, 1, 32, 32, dtype=torch.float64, requires_grad=True)
    embeddings = (single if group is None else Sharded(single, group))(images)
    (embeddings @ torch.arange(8.0).double()).square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in single.named_parameters()}
    statistics = {name: value for name, value in single.named_buffers() if "running" in name}
    return gradients | statistics | {"embeddings": embeddings.detach(), "images": images.grad}


NETWORKS = [(name, freeze) for name in ("resnet18", "efficientnet_lite0") for freeze in (True, False)]


def everything(two, three):
    """Every case in a group of two processes and in one of three, and networks in three; None from outsiders."""
    return {
        2: {name: study(name, two) for name in CASES} if two is not None else None,
        3: {name: study(name, three) for name in CASES},
        "networks": {case: split_network(*case, three) for case in NETWORKS},
    }


def in_three_processes(work, folder):
    """Write down what ``work(group of the first two, group of all)`` gives in each of three processes."""
    start_processes(_member, (work, str(folder)), 3, start_method="fork" if sys.platform == "linux" else "spawn")


def given_by_each(folder):
    """What each of three processes wrote down."""
    return [torch.load(folder / f"result{rank}.pt", weights_only=True) for rank in range(3)]


def _member(rank, work, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=3)
    two = dist.new_group([0, 1])
    torch.save(work(two if rank < 2 else None, dist.group.WORLD), f"{folder}/result{rank}.pt")
    dist.destroy_process_group()
