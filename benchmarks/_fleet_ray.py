"""Ray Tune over the whole grid: a worker for each core, the data once in the object store.

`fleet.py` starts it with a job. Workers are kept from trial to trial, one thread each; nothing is logged.
"""

from _fleet_work import GRIDS, Job, cores, job_of_this_process, report  # first: it starts the clock

# isort: split
import logging
import os
import tempfile
import time
from statistics import fmean
from typing import Any

import ray
import torch
from _fleet_data import parts
from _fleet_loops import tensors, train
from ray import tune

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1"}


def trial(config: dict[str, Any], job: Job, data: list[torch.Tensor]) -> None:
    torch.set_num_threads(1)
    found = train(job, data, **config["run"])
    tune.report({"loss": found.loss, "first": found.first, "steady": found.steady, "last": time.time()})


def tuned(job: Job, folder: str) -> list[dict[str, Any]]:
    """Return what each trial reported, with its configuration."""
    ray.init(num_cpus=cores(), include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    data = tensors(parts(job.work, job.split))
    grid = [{"optimizer": o, "rate": r, "seed": s} for o, r, s in job.runs()]
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(trial, job=job, data=data), {"cpu": 1}),
        param_space={"run": tune.grid_search(grid)},
        tune_config=tune.TuneConfig(reuse_actors=True),
        run_config=tune.RunConfig(storage_path=folder, verbose=0),
    )
    results = tuner.fit()
    if results.errors:
        raise results.errors[0]
    return [{**each.config["run"], **each.metrics} for each in results]


def main() -> None:
    ready, difference = time.perf_counter(), time.perf_counter() - time.time()
    job = job_of_this_process()
    os.environ |= QUIET
    with tempfile.TemporaryDirectory() as folder:
        found = tuned(job, folder)
    end = time.perf_counter()
    order = {name: i for i, name in enumerate(GRIDS)}
    found.sort(key=lambda each: (order[each["optimizer"]], each["rate"], each["seed"]))
    report(
        ready,
        min(each["first"] for each in found) + difference,
        end,
        fmean(each["steady"] for each in found) / cores(),
        [(each["optimizer"], each["rate"], each["seed"], each["loss"]) for each in found],
        threads=cores(),
        ending=end - difference - max(each["last"] for each in found),
    )
    ray.shutdown()


if __name__ == "__main__":
    main()
