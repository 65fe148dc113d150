"""Lion beside AdamW on a small transformer: memory, cost of a step, final loss.

    python examples/lion.py [--steps N] [--seeds N] [--out DIR]

Each tries three rates on the validation text; the decay of Lion is larger by as much as its rate is smaller,
as its authors advise. The chosen ones then run with further weights and orders, the same for both.
"""

from experiment import HERE, arguments, conclude, rows, tuned

from thalweg.tasks import load_task

TASK = load_task(HERE / "shakespeare.py")


def recipes(optimizer, rates, product):
    """Return recipes whose decay × rate is the same."""
    common = {"optimizer": optimizer, "schedule": {"name": "warmup-cosine", "warmup": 50}}
    return [{**common, "rate": r, "hyperparameters": {"weight_decay": product / r}} for r in rates]


CONTENDERS = {
    "adamw": recipes("adamw", (0.001, 0.003, 0.01), 3e-4),
    "lion": recipes("lion", (0.0001, 0.0003, 0.001), 3e-4),
}


def measure(trained, seed):
    del seed
    trace = trained.trace
    return {
        "bits per character": trace.test["bits_per_character"],
        "bytes of state a parameter": trace.state_bytes_per_parameter,
        "seconds an update": trace.step_seconds,
    }


if __name__ == "__main__":
    asked = arguments(__doc__, steps=600, seeds=6)
    how = {"steps": asked.steps, "out": asked.out}
    chosen = tuned(TASK, CONTENDERS, higher=False, **how)
    found = rows(TASK, chosen, asked.seeds, measure, **how)
    conclude(
        "lion",
        asked,
        chosen,
        found,
        ("bits per character", "bytes of state a parameter", "seconds an update"),
    )
