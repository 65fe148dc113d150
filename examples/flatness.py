"""Does SAM find flatter minima, and do they generalise better? Measured on CIFAR-10 images.

    python examples/flatness.py [--epochs N] [--seeds N] [--out DIR]

Each contender tries three rates on the validation images of one split, and then runs on further splits,
weights and orders, the same for all. After training two things are measured: the accuracy on test images, and
how sharp the minimum is, on training images: the largest eigenvalue of the Hessian, and how much the loss
rises one step of length 0.05 up the gradient. SAM costs two gradients an update; it gets as many updates as
the others, and so about twice their time.
"""

import numpy as np
import torch
from experiment import HERE, arguments, conclude, rows, tuned
from scipy.sparse.linalg import LinearOperator, eigsh

from thalweg.optim import curvature_along
from thalweg.tasks import load_task

TASK = load_task(HERE / "cifar10.py")
IMAGES = 1000  # of the training part, on which sharpness is measured
RADIUS = 0.05


def recipes(optimizer, rates, **around):
    common = {"optimizer": optimizer, "schedule": {"name": "cosine"}, "wrappers": around}
    return [{**common, "rate": rate} for rate in rates]


CONTENDERS = {
    "momentum": recipes("momentum", (0.01, 0.03, 0.1)),
    "adam": recipes("adam", (0.001, 0.003, 0.01)),
    "momentum with SAM": recipes("momentum", (0.01, 0.03, 0.1), sam={"rho": 0.05}),
}


def measure(trained, seed):
    top, rise = sharpness(trained.model.eval(), seed)
    return {
        "test accuracy": trained.trace.test["accuracy"],
        "training loss": trained.trace.train["loss"],
        "largest eigenvalue": top,
        "rise of the loss": rise,
        "seconds an update": trained.trace.step_seconds,
    }


def sharpness(model, seed):
    """Return the largest eigenvalue of the Hessian, and the rise of the loss up the gradient."""
    batch = TASK.data(seed).train.batch(np.arange(IMAGES))
    parameters = [p for p in model.parameters() if p.requires_grad]
    sizes = [p.numel() for p in parameters]

    def product(vector):
        pieces = torch.as_tensor(vector, dtype=torch.float32).flatten().split(sizes)
        along = [piece.view_as(p) for piece, p in zip(pieces, parameters, strict=True)]
        slope = curvature_along(TASK.loss(model, batch), parameters, along)
        return torch.cat([x.flatten() for x in torch.autograd.grad(slope, parameters)]).double().numpy()

    hessian = LinearOperator((sum(sizes), sum(sizes)), matvec=product, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(sum(sizes))
    (top,) = eigsh(hessian, k=1, which="LA", tol=1e-2, v0=start, return_eigenvectors=False)
    loss = TASK.loss(model, batch)
    gradients = torch.autograd.grad(loss, parameters)
    norm = torch.sqrt(sum((g**2).sum() for g in gradients))
    with torch.no_grad():
        for p, g in zip(parameters, gradients, strict=True):
            p += RADIUS * g / norm
        rise = TASK.loss(model, batch) - loss
    return float(top), float(rise)


if __name__ == "__main__":
    asked = arguments(__doc__, epochs=5.0, seeds=6)
    how = {"epochs": asked.epochs, "out": asked.out}
    chosen = tuned(TASK, CONTENDERS, higher=True, **how)
    found = rows(TASK, chosen, asked.seeds, measure, **how)
    conclude("flatness", asked, chosen, found, ("test accuracy", "largest eigenvalue", "rise of the loss"))
