"""Adam with L2 and AdamW: are they the same? Measured on CIFAR-10 images.

    python examples/decay.py [--epochs N] [--seeds N] [--out DIR]

Both have the same rate and schedule. Each tries three strengths of decay on the validation images of one
split, and then runs on further splits, weights and orders, the same for both. Beside the accuracy on test
images the length of all weights is measured: L2 divides the pull on each weight by the size of its gradients,
and so hardly holds those that have large ones.
"""

import torch
from experiment import HERE, arguments, conclude, rows, tuned

from thalweg.tasks import load_task

TASK = load_task(HERE / "cifar10.py")


def recipes(optimizer, strengths):
    common = {"optimizer": optimizer, "rate": 0.003, "schedule": {"name": "cosine"}}
    return [{**common, "hyperparameters": {"weight_decay": x}} for x in strengths]


CONTENDERS = {
    "adam without decay": [{"optimizer": "adam", "rate": 0.003, "schedule": {"name": "cosine"}}] * 3,
    "adam with L2": recipes("adam", (1e-4, 1e-3, 1e-2)),
    "adamw": recipes("adamw", (1e-2, 1e-1, 1.0)),
}


def measure(trained, seed):
    del seed
    weights = torch.cat([p.detach().flatten() for p in trained.model.parameters()])
    return {
        "test accuracy": trained.trace.test["accuracy"],
        "training loss": trained.trace.train["loss"],
        "length of the weights": float(weights.norm()),
    }


if __name__ == "__main__":
    asked = arguments(__doc__, epochs=5.0, seeds=6)
    how = {"epochs": asked.epochs, "out": asked.out}
    chosen = tuned(TASK, CONTENDERS, higher=True, **how)
    found = rows(TASK, chosen, asked.seeds, measure, **how)
    conclude("decay", asked, chosen, found, ("test accuracy", "training loss", "length of the weights"))
