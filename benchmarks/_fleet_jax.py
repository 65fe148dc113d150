"""The same trainings by hand in JAX, as an expert writes them: vmap over replicas, scan over updates, optax.

`fleet.py` starts it with a job. One compiled program for each optimizer; rates are data, the orders of all
epochs are made before, the data lies on the device once. "jax" is the plain way, a row for each replica.
"jax-shared" is the fastest that was found on CPUs: seeds one after the other, the rates of a seed, which see
the same batches, as rows, and a program on each core. Epochs end without their last short batch, since
shapes are fixed; optimizers are PyTorch's in their defaults.
"""

from _fleet_work import GRIDS, Job, cores, job_of_this_process, report  # first: it starts the clock

# isort: split
import math
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import sklearn.datasets  # noqa: F401 where the digits are: an import, so it counts as one
from _fleet_data import Parts, parts

SIZES = {"digits": (64, 32, 10), "mnist": (784, 128, 10)}
OPTIMIZERS = {
    "sgd": optax.sgd,
    "momentum": lambda rate: optax.sgd(rate, momentum=0.9),
    "rmsprop": lambda rate: optax.rmsprop(rate, decay=0.99, eps=1e-8, eps_in_sqrt=False),
    "adam": optax.adam,
}


def initial(seed: int, sizes: tuple[int, ...]) -> list[Any]:
    """Return weights and biases as PyTorch draws them: uniform within 1/√inputs."""
    random, found = np.random.default_rng(seed), []
    for inputs, outputs in pairwise(sizes):
        bound = inputs**-0.5
        found += [random.uniform(-bound, bound, shape) for shape in ((inputs, outputs), (outputs,))]
    return [array.astype(np.float32) for array in found]


def order(seed: int, examples: int, job: Job) -> Any:
    """Return which examples each update sees."""
    random, whole = np.random.default_rng([seed, 1]), examples // job.batch_size
    epochs = [random.permutation(examples) for _ in range(math.ceil(job.steps / whole))]
    rows = [epoch[: whole * job.batch_size].reshape(whole, job.batch_size) for epoch in epochs]
    return np.concatenate(rows)[: job.steps].astype(np.int32)


def loss(p: Any, x: Any, y: Any) -> Any:
    logits = jax.nn.relu(x @ p[0] + p[1]) @ p[2] + p[3]
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def program(name: str, shared: bool) -> Any:
    """Return the trainings of one optimizer: of weights and orders by seed, and of rates."""

    def train(p: Any, rate: Any, rows: Any, data: Parts) -> Any:
        optimizer = OPTIMIZERS[name](rate)

        def step(carry: Any, index: Any) -> Any:
            p, state = carry
            gradient = jax.grad(loss)(p, data.x[index], data.y[index])
            updates, state = optimizer.update(gradient, state, p)
            return (optax.apply_updates(p, updates), state), None

        p = jax.lax.scan(step, (p, optimizer.init(p)), rows)[0][0]
        return loss(p, data.x_validation, data.y_validation)

    if shared:
        rates_of_seed = jax.vmap(train, (None, 0, None, None))
        return jax.jit(lambda p, rates, rows, data: jax.lax.map(
            lambda seed: rates_of_seed(seed[0], rates, seed[1], data), (p, rows)))  # fmt: skip
    return jax.jit(jax.vmap(train, (0, 0, 0, None)))


def main() -> None:
    ready = time.perf_counter()
    job, threads = job_of_this_process(), cores()
    shared, seeds, rates = job.candidate == "jax-shared", job.seeds, len(job.positions)
    data = Parts(*map(jnp.asarray, parts(job.work, job.split)))
    weights = [np.stack(each) for each in zip(*(initial(s, SIZES[job.work]) for s in seeds), strict=True)]
    rows = np.stack([order(seed, len(data.x), job) for seed in seeds])
    if not shared:
        weights, rows = [np.repeat(each, rates, 0) for each in weights], np.repeat(rows, rates, 0)
    weights, rows = jax.tree.map(jnp.asarray, (weights, rows))
    programs = {}
    for name in GRIDS:
        grid = jnp.array(job.rates(name) * (1 if shared else len(seeds)))
        programs[name] = program(name, shared).lower(weights, grid, rows, data).compile(), grid
    compiled = time.perf_counter()

    def run(name: str) -> Any:
        return jax.block_until_ready(programs[name][0](weights, programs[name][1], rows, data))

    with ThreadPoolExecutor(threads if shared else 1) as pool:
        found = list(pool.map(run, GRIDS))
        end = time.perf_counter()
        list(pool.map(run, GRIDS))
        again = time.perf_counter() - end
    losses = [
        (name, rate, seed, float(value) if math.isfinite(value) else None)
        for name, values in zip(GRIDS, found, strict=True)
        for seed, of_seed in zip(seeds, np.asarray(values).reshape(len(seeds), -1), strict=True)
        for rate, value in zip(job.rates(name), of_seed, strict=True)
    ]
    report(ready, compiled, end, again / job.count / job.steps, losses, threads=threads, extra=again)


if __name__ == "__main__":
    main()
