"""Train with several processes at once: PyTorch's own data parallelism, started by torchrun.

Every process has the whole network and a share of each batch. DistributedDataParallel averages the
gradients, so that all take the same step. Batch norm sees only the share of its own process, as in
most code: the synchronised kind exists for GPUs alone.
"""

import gc
import itertools
import os
import traceback
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import distributed

_joined = itertools.count()  # the groups that this process has joined


@contextmanager
def process_group(device):
    """Join the processes that torchrun started, if it did: give (number, how many, device).

    Gloo connects processes on CPUs, NCCL on GPUs, each process with a GPU of its own.
    """
    if "RANK" not in os.environ:
        yield 0, 1, device
        return
    if device.type == "cuda":
        device = own_gpu()
        torch.cuda.set_device(device)
    # A launcher that starts workers again gives them the old store, with the addresses of the dead
    # ones in it; a prefix for each attempt keeps them apart (newer PyTorch hangs without). So does
    # one for each group of a process that joins several, one after the other.
    os.environ.setdefault("TORCH_NCCL_USE_COMM_NONBLOCKING", "0")  # or 2.7.0 hangs: pytorch#153960
    store, number, processes = next(distributed.rendezvous("env://"))
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=distributed.PrefixStore(f"attempt {attempt}, group {next(_joined)}", store),
        rank=number,
        world_size=processes,
        device_id=device if device.type == "cuda" else None,
    )
    # Whatever still holds the group when it is destroyed, such as a DistributedDataParallel in a
    # cycle of references, keeps its threads, and PyTorch then aborts as the interpreter ends.
    leave = True
    try:
        yield number, processes, device
        gc.collect()
        distributed.barrier()  # else a process that leaves early takes the others' connections
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)
        # NCCL's leave-taking waits for the others, who wait for this process in their next sum:
        # only if it dies does the launcher see it, and can start all of them again.
        leave = device.type != "cuda" or isinstance(error, GeneratorExit)
        raise
    finally:
        gc.collect()
        if leave:
            distributed.destroy_process_group()


def own_gpu():
    """Return the GPU that has this process's number within the machine: 0, unless torchrun says.

    Raises: ValueError if PyTorch sees no GPU of that number.
    """
    number, there = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if number >= there:
        raise ValueError(
            f"Process {number} of this machine (counted from 0) has no GPU of its own: PyTorch "
            f"sees {there}. Start as many processes here as there are GPUs, or add --device cpu."
        )
    return torch.device("cuda", number)


def data_parallel(model, device):
    """Wrap a model so that its gradients are averaged over the processes.

    The mean is over processes, not pictures: `Batches.weight` makes up for shares of unequal size.
    """
    if not distributed.is_initialized():
        return model
    devices = [device] if device.type == "cuda" else None
    wrapped = torch.nn.parallel.DistributedDataParallel(model, device_ids=devices)
    wrapped.training = model.training  # else it would seem that its parts alone are frozen
    wrapped.broadcast_buffers = False  # training reads none; for the test there is `share_buffers`
    return wrapped


def share_buffers(model):
    """Give every process the first one's buffers, such as running statistics.

    In training each has moved its own, by its own share of each batch.
    """
    if distributed.is_initialized():
        for buffer in model.buffers():
            distributed.broadcast(buffer, 0)


def join_records(record, device, *wishes):
    """Join the records that the processes have of the same steps, and their wishes.

    Every process must call it equally often, or the others wait for ever: so at each record.

    Returns: the joint record (means weighted by images; count and images/s are sums), and of each
             wish, a bool, whether any process has it.
    """
    if not distributed.is_initialized():
        return record, *wishes
    n = record.count
    mine = [record.loss * n, record.accuracy * n, n, record.images_per_second, *wishes]
    totals = torch.tensor(mine, dtype=torch.float64, device=device)
    distributed.all_reduce(totals)
    loss, correct, n, speed, *wishes = totals.tolist()
    joint = replace(
        record, loss=loss / n, accuracy=correct / n, count=round(n), images_per_second=speed
    )
    return joint, *(wish > 0 for wish in wishes)


def gather(value):
    """Return the list of the processes' values."""
    if not distributed.is_initialized():
        return [value]
    values = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values
