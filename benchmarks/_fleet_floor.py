"""What an update costs at least: its operations, at the speed of a large product of matrices."""

import time

import torch
from _fleet_data import ALPHABET, CONTEXT
from _fleet_models import MODELS, loss
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

SIDE = 2048
INPUTS = {"digits": (64,), "mnist": (784,), "cnn": (1, 28, 28)}


def batch(work: str, size: int) -> tuple[Tensor, Tensor]:
    """Return a batch of the shape of a workload's."""
    if work == "text":
        characters = torch.randint(len(ALPHABET), (2, size, CONTEXT))
        return characters[0], characters[1]
    return torch.randn(size, *INPUTS[work]), torch.randint(10, (size,))


def step_flops(work: str, size: int) -> int:
    """Count the operations of one update: of products and convolutions, forwards and backwards."""
    model = MODELS[work]()
    with FlopCounterMode(display=False) as counter:
        loss(model, batch(work, size)).backward()
    return counter.get_total_flops()


def product_speed(threads: int, seconds: float = 1.0) -> float:
    """Return the operations a second of a product of large float32 matrices, at its fastest."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    a, b, c = (torch.randn(SIDE, SIDE) for _ in range(3))
    fastest, until = float("inf"), time.perf_counter() + seconds
    while fastest == float("inf") or time.perf_counter() < until:
        start = time.perf_counter()
        torch.mm(a, b, out=c)
        fastest = min(fastest, time.perf_counter() - start)
    torch.set_num_threads(before)
    return 2 * SIDE**3 / fastest
