"""A recipe as text that trains: as TOML for the command line, and as a loop in PyTorch."""

import math
import shlex
from collections.abc import Mapping
from typing import Any, Final

import tomli_w

from thalweg.records import Contender, Plan

# The methods that a plain loop trains: name in the catalogue -> class, and the values that make it this one.
# The class is that of `torch.optim`, or of `thalweg.optim` where PyTorch has none. A test compares with the
# catalogue. Left out are those that ask more of a loop than the gradient of a batch: Sophia.
CLASSES: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "sgd": ("SGD", {}),
    "momentum": ("SGD", {"momentum": 0.9}),
    "nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}),
    "adagrad": ("Adagrad", {}),
    "rmsprop": ("RMSprop", {}),
    "adam": ("Adam", {}),
    "amsgrad": ("Adam", {"amsgrad": True}),
    "adamw": ("AdamW", {}),
    "adadelta": ("Adadelta", {}),
    "adamax": ("Adamax", {}),
    "nadam": ("NAdam", {}),
    "radam": ("RAdam", {}),
    "sparse-adam": ("SparseAdam", {}),
    "rprop": ("Rprop", {}),
    "asgd": ("ASGD", {"t0": 1.0}),
    "lion": ("Lion", {}),
    "lars": ("LARS", {}),
    "lamb": ("LAMB", {}),
    "adafactor": ("Adafactor", {}),
    "schedule-free-sgd": ("ScheduleFreeSGD", {}),
    "schedule-free-adamw": ("ScheduleFreeAdamW", {}),
    "prodigy": ("Prodigy", {}),
    "dadapt-adam": ("DAdaptationAdam", {}),
    "dadapt-sgd": ("DAdaptationSGD", {}),
    "muon": ("Muon", {"adjust_lr_fn": "match_rms_adamw"}),
    "shampoo": ("Shampoo", {}),
    "soap": ("SOAP", {}),
}
PYTORCH: Final = frozenset(
    {"Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Rprop"}
    | {"SGD", "SparseAdam"}  # not ASGD, whose average it leaves to the user, nor Muon, for matrices only
)
OWN: Final = frozenset({"buffer", "epsilon"})  # hyperparameters of these that PyTorch does not have
# Whatever leaves other weights to evaluate with than those that it trains.
AVERAGING: Final = frozenset({"asgd", "schedule-free-sgd", "schedule-free-adamw", "lookahead", "ema", "swa"})
TWO_GRADIENTS: Final = frozenset({"sam", "asam"})  # wrappers
CLIPPING: Final = {"clip_norm": "clip_grad_norm_", "clip_value": "clip_grad_value_"}
ORDERS: Final = {
    "shuffled": "torch.randperm(part.examples)",
    "in order": "torch.arange(part.examples)",
    "with replacement": "torch.randint(part.examples, (part.examples,))",
}


def as_toml(plan: Plan, recipe: Mapping[str, Any], steps: int) -> str:
    """Return a recipe as TOML, after a comment with the command that trains it.

    Arguments: `plan`, of the race, which names the task; `recipe`, complete, as data; `steps`, updates.
    """
    source = shlex.quote(plan.source) if _loadable(plan) else "TASK"
    seed = f" --seed {plan.seed}" if plan.seed else ""
    command = f"thalweg train {source} --recipe recipe.toml --steps {steps}{seed}"
    return f"# Saved as recipe.toml, this trains it: {command}\n{tomli_w.dumps(recipe)}"


def as_code(plan: Plan, contender: Contender, recipe: Mapping[str, Any], steps: int) -> str:
    """Return a loop in PyTorch that trains a recipe: about ten lines, which run as they stand.

    The optimizer is one of `torch.optim` where PyTorch has the method with the same mathematics, else one of
    `thalweg.optim`. What a plain loop does not do (early stopping, a rate that falls on a plateau, a second
    gradient, the curvature) is left to Thalweg's own loop. Where the task cannot be loaded by a name, the
    first line says what is missing.

    Arguments: `plan`, of the race; `contender`, of which the batch size is; `recipe`, complete, as data;
    `steps`, updates.
    """
    if _needs_own_loop(recipe):
        return _own_loop(plan, recipe, steps)
    size = contender.batch_size or plan.batch_size
    wrappers: Mapping[str, Any] = recipe.get("wrappers", {})
    name, fixed = CLASSES[recipe["optimizer"]]
    values = {"lr": recipe["rate"], **fixed, **recipe.get("hyperparameters", {})}
    given = "".join(f", {key}={_python(value)}" for key, value in values.items())
    clips = []
    if name in PYTORCH and not OWN & set(values) and set(wrappers) <= set(CLIPPING):
        made = f"torch.optim.{name}(model.parameters(){given})"
        clips = [
            f"torch.nn.utils.{CLIPPING[key]}(model.parameters(), {_python(wrappers[key].get('limit', 1.0))})"
            for key in wrappers  # they act in the order in which they are listed
        ]
    else:
        around = ", ".join(f"thalweg.optim.{key}({_arguments(value)})" for key, value in wrappers.items())
        made = f"thalweg.optim.{name}(model{given}{f', wrappers=[{around}]' if around else ''})"
    schedule = recipe.get("schedule", {"name": "constant"})
    scheduled = dict(schedule) != {"name": "constant"}
    loaded = _loadable(plan)
    lines = ["import torch"]
    if loaded:
        epochs = math.ceil(steps / math.ceil(plan.train_examples / size))
        device = "" if plan.device == "cpu" else f"device={plan.device!r}"
        to = f".to({device})" if device else ""
        order = ORDERS[recipe.get("sampling", "shuffled")]
        lines += [
            "import thalweg",
            "",
            "torch.manual_seed(0)",
            f"task = thalweg.load_task({plan.source!r})",
            f"model, loss = task.model(seed=0){to}, task.loss",
            f"part = task.data(seed={plan.seed}).train{to}",
            f"batches = (part.batch(i) for _ in range({epochs}) for i in {order}.split({size}))",
        ]
    else:
        order = recipe.get("sampling", "shuffled")
        lines = [
            f"# To run this, define model (a torch.nn.Module), batches (of {size} training examples, "
            f"{order}, {steps} or more)",
            "# and loss: loss(model, batch) is the mean over the batch, as a tensor.",
            *lines,
            *(["import thalweg"] if scheduled or made.startswith("thalweg") else []),
            "",
        ]
    lines.append(f"optimizer = {made}")
    if scheduled:
        lines += [
            f"schedule = thalweg.schedules.from_data({_python(schedule)}).resolve({steps})",
            "scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)",
        ]
    body = ["optimizer.zero_grad()", "loss(model, batch).backward()", *clips, "optimizer.step()"]
    body += ["scheduler.step()"] if scheduled else []
    lines += [f"for _, batch in zip(range({steps}), batches):", *(f"    {line}" for line in body)]
    if AVERAGING & {recipe["optimizer"], *wrappers}:
        lines.append("optimizer.eval()  # put the averaged weights in place, to evaluate with and to save")
    return "\n".join(lines) + "\n"


def _loadable(plan: Plan) -> bool:
    """Tell whether the task has a name that can be written into a line."""
    return plan.source != "" and plan.source.isprintable()


def _needs_own_loop(recipe: Mapping[str, Any]) -> bool:
    unusual = {"micro_batch", "plateau", "patience"} & set(recipe)
    precise = recipe.get("precision", "float32") != "float32"
    clock = _clock(recipe.get("schedule", {})) != "steps"
    second = TWO_GRADIENTS & set(recipe.get("wrappers", {}))
    return bool(unusual or precise or clock or second or recipe["optimizer"] not in CLASSES)


def _clock(schedule: Mapping[str, Any]) -> str:
    """Return the clock of a schedule as data; both parts of a joined one have the same."""
    return _clock(schedule["first"]) if "first" in schedule else schedule.get("clock", "steps")


def _own_loop(plan: Plan, recipe: Mapping[str, Any], steps: int) -> str:
    device = "" if plan.device == "cpu" else f", device={plan.device!r}"
    task = repr(plan.source) if _loadable(plan) else "task"
    lines = ["# This recipe asks more than a plain loop over batches does, so Thalweg's own loop trains it."]
    if not _loadable(plan):
        lines.append("# To run this, define task: a thalweg.Task, or a pair of arrays (X, y).")
    fields = [f"        {key!r}: {_python(value)}," for key, value in recipe.items()]
    lines += [
        "import thalweg",
        "",
        "recipe = thalweg.Recipe.from_data(",
        "    {",
        *fields,
        "    }",
        ")",
        f"training = thalweg.train({task}, recipe, steps={steps}, seed={plan.seed}{device})",
        "model = training.model",
    ]
    return "\n".join(lines) + "\n"


def _arguments(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={_python(value)}" for key, value in values.items())


def _python(value: Any) -> str:
    """Write a value of a recipe's TOML as Python: lists are tuples there, and the word none is None.

    >>> _python(["none", 0.001]), _python({"name": "cosine"})
    ('(None, 0.001)', "{'name': 'cosine'}")
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {_python(x)}" for key, x in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "(" + ", ".join(map(_python, value)) + ("," if len(value) == 1 else "") + ")"
    return "None" if value == "none" else repr(value)
