"""What people do today: Optuna over a grid of rates for each optimizer, an ordinary loop for every trial.

`fleet.py` starts it with a job; the candidate "optuna" takes a DataLoader, "memory" tensors in memory.
"""

from _fleet_work import GRIDS, job_of_this_process, report  # first: it starts the clock

# isort: split
import math
import time
from statistics import fmean

import optuna
import torch
from _fleet_data import parts
from _fleet_loops import Trained, indexed, loaded, tensors, train


def main() -> None:
    ready, difference = time.perf_counter(), time.perf_counter() - time.time()
    job = job_of_this_process()
    torch.set_num_threads(job.threads)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    data = tensors(parts(job.work, job.split))
    batches = loaded if job.candidate == "optuna" else indexed
    trained: list[tuple[str, float, int, Trained]] = []

    def mean_loss(trial: optuna.Trial, optimizer: str) -> float:
        rate = trial.suggest_float("rate", 1e-7, 10, log=True)
        found = [
            (optimizer, rate, seed, train(job, data, optimizer, rate, seed, batches)) for seed in job.seeds
        ]
        trained.extend(found)
        return fmean(math.inf if each.loss is None else each.loss for *_, each in found)

    for optimizer in GRIDS:
        rates = job.rates(optimizer)
        study = optuna.create_study(sampler=optuna.samplers.GridSampler({"rate": rates}, seed=0))
        study.optimize(lambda trial, name=optimizer: mean_loss(trial, name), n_trials=len(rates))
    end = time.perf_counter()
    report(
        ready,
        trained[0][3].first + difference,
        end,
        fmean(each.steady for *_, each in trained),
        [(optimizer, rate, seed, each.loss) for optimizer, rate, seed, each in trained],
        threads=job.threads,
    )


if __name__ == "__main__":
    main()
