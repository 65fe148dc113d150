"""What other packages' rate finders suggest, each called as its documentation says, with its own defaults.

They get the same initial weights, training data, batch size and optimizer as ours, and shuffle batches by
themselves. `finder.py` starts this as a process of its own, for what they change in a process (warnings,
random numbers, settings of matplotlib) is many things; it prints a line of JSON for each sweep.

A finder that raises, or finds too little to suggest anything, gives no answer; its message is kept.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial, wraps
from pathlib import Path
from typing import Any, NamedTuple

import torch
from _common import versions
from _finder_tasks import FOLDER, PAIRS, WORKS, Pair, task_of
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from thalweg import seeds
from thalweg.progress import Bar
from thalweg.tasks import Task, load_task

PACKAGES = ("torch-lr-finder", "fastai", "lightning", "lion-pytorch")
FROM = 1e-7  # the rate that torch-lr-finder's documentation gives the optimizer: there its sweep begins


class Setting(NamedTuple):
    """What every finder is given."""

    model: nn.Module
    data: TensorDataset
    batch_size: int
    optimizer: Callable[..., torch.optim.Optimizer]  # of parameters and lr

    def loader(self) -> Any:
        return DataLoader(self.data, batch_size=self.batch_size, shuffle=True)


def optimizer_of(name: str) -> Any:
    """Return PyTorch's optimizer of that name; Lion is `lion-pytorch`'s."""
    if name == "lion":
        from lion_pytorch import Lion

        return Lion
    return {
        "sgd": torch.optim.SGD,
        "momentum": partial(torch.optim.SGD, momentum=0.9),
        "adam": torch.optim.Adam,
    }[name]


def criterion(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy, which is the loss of all the tasks; of texts the mean is over all characters."""
    return nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten())


def by_torch_lr_finder(setting: Setting) -> dict[str, Any]:
    import matplotlib
    from torch_lr_finder import LRFinder

    matplotlib.use("Agg")
    from matplotlib import pyplot

    optimizer = setting.optimizer(setting.model.parameters(), lr=FROM)
    finder = LRFinder(setting.model, optimizer, criterion, device="cpu")
    finder.range_test(setting.loader())
    steps = len(finder.history["lr"])
    try:
        _, rate = finder.plot(ax=pyplot.figure().subplots())
    except RuntimeError as error:
        return {"torch-lr-finder": answer(None, steps, str(error))}
    finally:
        pyplot.close("all")
    return {"torch-lr-finder": answer(rate, steps)}


def by_fastai(setting: Setting) -> dict[str, Any]:
    from fastai.callback.schedule import minimum, slide, steep, valley
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.optimizer import OptimWrapper

    picks = {pick.__name__: pick for pick in (valley, slide, steep, minimum)}
    found: dict[str, Any] = {}

    def tried(pick: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(pick)
        def or_nothing(*given: Any) -> Any:
            try:
                return pick(*given)
            except (IndexError, RuntimeError, ValueError) as error:
                found[pick.__name__] = answer(None, 0, str(error))
                return math.nan, (math.nan, math.nan)

        return or_nothing

    loaders = DataLoaders(setting.loader(), setting.loader())
    with tempfile.TemporaryDirectory() as folder:
        learner = Learner(
            loaders,
            setting.model,
            loss_func=criterion,
            opt_func=partial(OptimWrapper, opt=setting.optimizer),
            path=Path(folder),
        )
        suggested = learner.lr_find(show_plot=False, suggest_funcs=[tried(pick) for pick in picks.values()])
    steps = len(learner.recorder.lrs)
    return {name: {**found.get(name, answer(getattr(suggested, name), 0)), "steps": steps} for name in picks}


def by_lightning(setting: Setting) -> dict[str, Any]:
    import lightning
    from lightning.pytorch.tuner import Tuner

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.lr = setting.model, 1e-3

        def training_step(self, batch: Any, number: int) -> Tensor:
            del number
            return criterion(self.model(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return setting.optimizer(self.parameters(), lr=self.lr)

    with tempfile.TemporaryDirectory() as folder:
        trainer = lightning.Trainer(
            accelerator="cpu",
            default_root_dir=folder,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        finder = Tuner(trainer).lr_find(Module(), train_dataloaders=setting.loader())
    assert finder is not None
    rate, steps = finder.suggestion(), len(finder.results["lr"])
    return {"lightning": answer(rate, steps, "" if rate else "too few losses")}


FINDERS = {"torch-lr-finder": by_torch_lr_finder, "fastai": by_fastai, "lightning": by_lightning}


def answer(rate: float | None, steps: int, why: str = "") -> dict[str, Any]:
    """Return a suggestion, the updates that it cost, and why there is none."""
    return {"suggestion": rate, "steps": steps, "why": why}


@lru_cache(maxsize=5)  # the root seeds of a task, whose pairs follow one another
def examples_of(work: str, root: int) -> tuple[Task, TensorDataset]:
    """Read a task, and its training part for a root seed."""
    task = load_task(task_of(WORKS[work]), None, False)
    part = task.data(root).train
    (whole,) = part.batches(part.examples)
    return task, TensorDataset(*whole)


def setting_of(pair: Pair, root: int) -> Setting:
    """Return what finders are given, for a root seed: as a training of ours with it begins."""
    task, examples = examples_of(pair.work.name, root)
    model = task.model(seeds.derive(root, "initial weights", 0))
    return Setting(model, examples, pair.work.batch_size, optimizer_of(pair.optimizer))


def peers_of(
    pairs: Sequence[Pair], roots: Iterable[int], fresh: bool
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Return by pair and method the answers, one a root seed; those that are not kept are asked for."""
    path = FOLDER / "peers.json"
    now = versions(("torch", *PACKAGES))
    kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if fresh or kept.get("versions") != now:
        kept = {"versions": now, "answers": {}}
    answers, wanted = kept["answers"], [str(root) for root in roots]
    missing = {
        pair.name: left
        for pair in pairs
        if (left := [root for root in wanted if root not in answers.get(pair.name, {})])
    }
    with Bar("peers", sum(map(len, missing.values()))) as bar:
        for name, root, found in _asked(missing):
            answers.setdefault(name, {})[root] = found
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(kept))
            bar.advance(1, name)
    return {
        pair.name: {
            method: [answers[pair.name][root][method] for root in wanted]
            for method in (answers[pair.name][wanted[0]])
        }
        for pair in pairs
    }


def _asked(missing: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield pair, root seed and the answer of each method, from a process of their own."""
    if not missing:
        return
    with (
        tempfile.TemporaryFile("w+") as wrong,
        subprocess.Popen(
            [sys.executable, __file__, json.dumps(missing)], stdout=subprocess.PIPE, stderr=wrong, text=True
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            found = json.loads(line)
            yield found["pair"], found["root"], found["answers"]
        if process.wait():
            wrong.seek(0)
            raise RuntimeError(f"The peers ended with {process.returncode}:\n{wrong.read()[-2000:]}")


def main() -> None:
    """Ask for what the one argument names, in JSON: root seeds by pair."""
    warnings.simplefilter("ignore")
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what finders print is no answer
    known = [finder for package, finder in FINDERS.items() if versions((package,))]
    for name, roots in json.loads(sys.argv[1]).items():
        for root in roots:
            answers: dict[str, Any] = {}
            for finder in known:
                setting = setting_of(PAIRS[name], int(root))  # anew: a finder may leave the weights changed
                torch.manual_seed(int(root))
                answers |= finder(setting)
            print(json.dumps({"pair": name, "root": root, "answers": answers}), file=out, flush=True)


if __name__ == "__main__":
    main()
