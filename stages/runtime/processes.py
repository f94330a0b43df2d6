"""One job in several processes, as torch's launcher starts them: the connection between them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from stages.runtime.errors import UserError, reason

PATIENCE = timedelta(hours=6)  # the others wait while the first process measures R@1; the launcher ends them on errors


@contextmanager
def joined(device: torch.device) -> Iterator[dist.ProcessGroup | None]:
    """The group of all processes of this job, connected while the block runs; None for a job of one process.

    Raises:
        UserError: the others cannot be reached, or one of them ended before its time.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield None
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    except (ValueError, RuntimeError) as error:
        raise UserError(f"WORLD_SIZE is set, but there is no group ({reason(error)}); start with torchrun") from None
    try:
        yield dist.group.WORLD
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error):
            raise
        raise UserError("another process of this job has ended; start the job again, it goes on from here") from None
    # Not after an error: the others may be in the middle of a message, and the end of this process tells the launcher.
    dist.destroy_process_group()
