"""The call that trains one model, in a folder of its own, so that it can be interrupted and go on."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from safetensors.torch import save
from torch import nn

from thalweg.api.prepare import (
    RUNS,
    TaskLike,
    execution,
    file_name,
    identity,
    prepare,
    steps_of,
    try_update,
)
from thalweg.errors import InputError
from thalweg.executors.threads import torch_threads
from thalweg.files import write_whole
from thalweg.hyper import Integer, Interval
from thalweg.progress import Bar
from thalweg.records import Stage, Trace
from thalweg.store import Store
from thalweg.tasks.user_code import isolated_random
from thalweg.training import snapshot
from thalweg.training.control import Control
from thalweg.training.engine import Engine, ModelEngine
from thalweg.training.loop import Begun, conclude
from thalweg.training.loop import train as train_rows
from thalweg.training.recipe import Recipe
from thalweg.training.trial import Budget, Execution, Trial, Workload, trial_key

SNAPSHOT_SECONDS: Final = 15.0  # the most that is lost when a process is killed


@dataclass(frozen=True)
class Training:
    """A finished training."""

    model: nn.Module  # with the final weights; the best ones where the recipe has a patience
    trace: Trace
    recipe: Recipe
    folder: Path  # recipe.toml and model.safetensors

    def __str__(self) -> str:
        t = self.trace
        lines = [f"{t.outcome.sentence} {t.steps} of {t.budget_steps} updates, {t.total_seconds:.1f} s."]
        for part, measured in (("training", t.train), ("validation", t.validation), ("test", t.test or {})):
            shown = ", ".join(f"{n} {x:.4g}" if x is not None else f"{n} –" for n, x in measured.items())
            lines.append(f"{part:>10}: {shown or '–'}")
        if t.clipped_fraction:
            lines.append(f"{100 * t.clipped_fraction:.1f} % of the updates were clipped.")
        if t.skipped_updates:
            lines.append(f"{t.skipped_updates} updates were skipped: their gradients were not finite.")
        return "\n".join([*lines, f"Weights and recipe: {self.folder}"])


def train(
    task: TaskLike,
    recipe: Recipe | Mapping[str, Any] | str = "adam",
    *,
    epochs: float | None = None,
    steps: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    executor: str = "auto",
    threads: int | None = None,
    device: str = "cpu",
    data: str | os.PathLike[str] | None = None,
    download: bool = False,
    out: str | os.PathLike[str] = RUNS,
    fresh: bool = False,
    snapshot_every: int | None = None,
) -> Training:
    """Train one model and keep recipe, weights and curves.

    Interrupted at any moment, the same call goes on from the last snapshot and ends with the same bits as
    if nothing had happened. Called again after the end, it returns what is there.

    Args:
        task: a built-in name, a file ``path/to/task.py``, a `Task`, or arrays ``(X, y)``.
        recipe: how to train: a recipe, or some of its fields by name, or the name of an optimizer. The
            batch size is what the task suggests where none is given.
        epochs: passes over the training part; with no budget at all, what the task suggests.
        steps: updates, instead of epochs.
        seconds: about so long, instead; measured and turned into updates before the start.
        seed: the root from which all random numbers derive.
        executor: "auto" or "serial", which for one model are the same.
        threads: of torch; None: one for small updates, else torch's own choice.
        device: where to train.
        data: the folder with the files of mnist and fashion-mnist; None: ``THALWEG_DATA``.
        download: whether missing files may be fetched into that folder.
        out: the folder that keeps the run.
        fresh: train anew, even if it is finished or begun.
        snapshot_every: updates between snapshots; None: about every 15 seconds.

    Raises:
        InputError: something cannot work as asked; nothing was started.
    """
    if snapshot_every is not None:
        Integer(None, "", Interval(1.0)).check("snapshot_every", "the run", snapshot_every)
    if isinstance(recipe, Recipe):
        given = recipe.to_data()
    else:
        given = {"optimizer": recipe} if isinstance(recipe, str) else dict(recipe)
    Recipe.from_data(given)  # refused before the data are loaded
    prepared = prepare(task, seed, given.get("batch_size"), data, download)
    recipe = Recipe.from_data({**given, "batch_size": prepared.batch_size})
    workload = prepared.workload
    if executor not in ("auto", "serial"):
        raise InputError("the executor of one training", "be auto or serial", repr(executor), "Leave it out.")
    how = execution(seed, "serial", threads, device, prepared.update_flops)
    asked = {"epochs": epochs, "steps": steps, "seconds": seconds}
    if not any(value is not None for value in asked.values()):
        asked["epochs"] = workload.task.epochs
    budget = Budget(**asked)  # type: ignore[arg-type]
    request = [workload.fingerprint, recipe.to_data(), asked, seed, threads, device, how.versions]
    folder = Path(out) / file_name(workload.task.name, identity([list(map(str, request))]))
    begun = None if fresh else _begun(folder)
    planned = begun or {"steps": steps_of(budget, workload, recipe, how), "threads": how.threads}
    how = replace(how, threads=planned["threads"])
    trial = Trial(recipe.optimizer, Stage.SINGLE, recipe, 0, planned["steps"])
    try_update(workload, trial, how)
    with Store.open(Path(out)) as store:
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(f"the folder {folder}", "be writable", error.strerror or str(error)) from error
        if begun is None:
            (folder / _SNAPSHOT).unlink(missing_ok=True)
            write_whole(folder / "recipe.toml", recipe.to_toml().encode())
            write_whole(folder / _BEGUN, json.dumps(planned).encode())
        return _train(store, folder, workload, trial, how, fresh, snapshot_every)


_SNAPSHOT: Final = "snapshot.safetensors"
_BEGUN: Final = "begun.json"


def _begun(folder: Path) -> dict[str, int] | None:
    """Return with how many updates and threads a training was begun; None if it was not."""
    try:
        begun = json.loads((folder / _BEGUN).read_text())
        return {"steps": int(begun["steps"]), "threads": int(begun["threads"])}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"the file {folder / _BEGUN}", "be one that Thalweg wrote", str(error), "Start anew with --fresh."
        ) from error


def _train(
    store: Store,
    folder: Path,
    workload: Workload,
    trial: Trial,
    how: Execution,
    fresh: bool,
    snapshot_every: int | None,
) -> Training:
    key = trial_key(workload, trial, how)
    path, weights = folder / _SNAPSHOT, folder / "model.safetensors"
    taken, progress = snapshot.read(path, key) if path.exists() else (None, None)
    # What earlier processes spent on this training counts as well.
    begun = Begun.now()
    begun = begun._replace(clock=begun.clock - (progress.elapsed_seconds if progress else 0.0))
    with torch_threads(how.threads), isolated_random(0):
        engine = ModelEngine(workload, trial, how.root, how.device, taken)
        control = Control(trial.recipe, workload.limits(trial), progress)
        trace = None if fresh else store.traces([key]).get(key)
        # After a fresh start that was broken off, the trace is an older one than the snapshot.
        if trace is not None and control.finished:
            engine.finish(0)
            return Training(engine.model, trace, trial.recipe, folder)
        with _interrupt() as interrupted, Bar("training", trial.steps) as bar:
            bar.advance(control.progress.step, "training")
            last = time.monotonic()

            def at_boundary(engine: Engine, row: int, control: Control) -> None:
                nonlocal last
                step = control.progress.step
                bar.advance(1, "training")
                if snapshot_every is not None:
                    due = step % snapshot_every == 0
                else:
                    due = time.monotonic() - last > SNAPSHOT_SECONDS
                if due or interrupted.is_set() or control.finished:
                    control.progress.elapsed_seconds = time.perf_counter() - begun.clock
                    snapshot.write(path, engine.snapshot(row), control.progress, key)
                    last = time.monotonic()
                if interrupted.is_set():
                    raise KeyboardInterrupt

            train_rows(engine, [control], workload, at_boundary=at_boundary)
        (trace,) = conclude(engine, [0], [control], workload, [trial], how, begun)
    state = {name: t.detach().cpu().contiguous().clone() for name, t in engine.model.state_dict().items()}
    write_whole(weights, save(state))
    store.save_trace(trace)
    return Training(engine.model, trace, trial.recipe, folder)


@contextmanager
def _interrupt() -> Iterator[threading.Event]:
    """Let the first Ctrl-C wait for the end of an update, and the second act at once."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed  # only the main thread may handle signals
        return
    before = signal.getsignal(signal.SIGINT)

    def press(number: int, frame: Any) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    signal.signal(signal.SIGINT, press)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)
