"""What cannot work is refused in one sentence, before anything is written."""

import re
import shlex
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from end_to_end.program import TASK, Call, Done, contents, run
from thalweg.store import FILE_NAME, Store, opening

Files = Mapping[str, str | bytes]

LOSS = "    return nn.functional.cross_entropy(model(x), y)"
DATA = "    return x, x.argmax(1)"
MODEL = "    return nn.Linear(3, 3)"

SENTENCE = re.compile(r"thalweg: .+ must .+; got .+\.( .+)?", re.DOTALL)


def mistaken(old: str, new: str) -> Files:
    """The small task with one mistake in it."""
    assert old in TASK
    return {"task.py": TASK.replace(old, new)}


# fmt: off
NAMES = [
    ("showdown digits --optimizers adm,sgd", "must be one that Thalweg knows; got 'adm'. Did you mean adam"),
    ("showdown digits --optimizers ,",
     "the optimizers of a race must be one or more different names; got none."),
    ("showdown digits --optimizers sgd,sgd", "must be one or more different names; got ['sgd', 'sgd']."),
    ("train digits --optimizer zzz", "got 'zzz'. Known: adadelta, adafactor, adagrad,"),
    ("optimizers adamm", "got 'adamm'. Did you mean adam"),
    ("showdown digts", "must be a built-in name or a file path/to/task.py; got 'digts'. Did you mean digits"),
    ("train mnits", "got 'mnits'. Did you mean mnist"),
    ("showdown digits --schedule cosin", "schedule must be a known one; got 'cosin'. Did you mean cosine"),
    ("train digits --schedule cosine:flor=0.1", "got 'flor'. Did you mean floor?"),
    ("train digits --set betta=0.9,0.9", "got 'betta=0.9,0.9'. Did you mean betas?"),
    ("schedules cosin", "got 'cosin'. Did you mean cosine"),
    ("showdown digits --executor fleeet",
     "the executor must be one of auto, serial, processes, fleet; got 'fleeet'. Did you mean fleet?"),
    ("showdown digits --executor ray", "must be one of auto, serial, processes, fleet; got 'ray'."),
    ("showdown digits --memory nonsense", "--memory must be a size such as 500MB or 2GB; got 'nonsense'."),
    ("showdown digits --memory 2PB", "--memory must be a size such as 500MB or 2GB; got '2PB'."),
    ("showdown digits --memory 1.2.3", "--memory must be a size such as 500MB or 2GB; got '1.2.3'."),
    *((f"showdown digits --memory {size}", f"--memory must be a size above 0; got '{size}'.")
      for size in ("0", "0GB", "0.0MiB")),
    ("showdown digits --memory=-1", "--memory must be a size such as 500MB or 2GB; got '-1'."),
    ("showdown digits --executor fleet --memory 1B", "the memory of a fleet must be at least 0."),
    ("showdown digits wne", "be a built-in name or a file path/to/task.py; got 'wne'. Did you mean wine"),
    ("showdown digits --optimizers adam --vary batchsize=8,16",
     "the field to vary must be one of a recipe with adam; got 'batchsize'. Did you mean batch_size or"),
    ("showdown digits --vary batch_size=8,16",
     "must have one optimizer; got sgd, momentum, rmsprop, adam. Name it with --optimizers."),
    ("showdown digits --optimizers adam --vary batch_size",
     "--vary must be FIELD=VALUE,VALUE; got 'batch_size'. Try batch_size=32,128."),
    ("showdown digits --optimizers adam --vary schedule=cosine,cosin", "got 'cosin'. Did you mean cosine"),
    ("showdown digits --optimizers adam --vary task=digits,wine",
     "the tasks of a race must have equally many examples of each part, 1437 + 180 + 180; got 142 + 18 + 18"),
    ("showdown digits --schedules cosine", "must be two or more different ones, or none; got cosine."),
    ("showdown digits --schedules constant,cosin", "got 'cosin'. Did you mean cosine"),
    ("train digits --device potato", "the device must be one that torch can use here; got "),
    ("report runs --race ab", "folder runs must hold stored runs; got no such folder."),
    ("runs", "folder thalweg-runs must hold stored runs; got no such folder. Run thalweg showdown first"),
]

NO_RATES = {"-1": "-1.0", "0": "0.0", "nan": "nan", "inf": "inf"}
ABOVE_0 = "must be a finite number above 0; got"
WHOLE = "must be a whole number of at least 1; got"
MOST = "the budget must be at most 100,000,000 updates; got"
NUMBERS = [
    *((f"train digits --rate {x}", f"rate of the recipe {ABOVE_0} {said}.") for x, said in NO_RATES.items()),
    *((f"showdown digits --rates adam={x}",
       f"a rate of adam {ABOVE_0} {said}.") for x, said in NO_RATES.items()),
    *((f"{command} digits --epochs {x}", f"epochs of the budget {ABOVE_0} {said}.")
      for command in ("showdown", "train") for x, said in NO_RATES.items()),
    *((f"{command} digits --batch-size {x}", f"batch_size of the {who} {WHOLE} {x}.")
      for command, who in (("showdown", "run"), ("train", "recipe")) for x in ("0", "-1")),
    *((f"{command} digits --batch-size 1438", "from 1 to 1437, the number of training examples; got 1438.")
      for command in ("showdown", "train")),
    ("train digits --rate fast", "--rate must be a number; got 'fast'."),
    ("showdown digits --rates adam=", "--rates of adam must be a number; got ''."),
    ("showdown digits --rates adam=0.1,0.1", "must be one or more different numbers; got (0.1, 0.1)."),
    ("showdown digits --rates adam=1 --rates adam=2", "--rates of adam must be given once; got twice."),
    ("showdown digits --rates lion=0.1", "rates must be given for optimizers of the race; got 'lion'."),
    ("showdown digits --rates 0", f"rates to try of the race {WHOLE} 0."),
    ("showdown digits --rates nine", "--rates must be a whole number; got 'nine'."),
    ("showdown digits --epochs two", "--epochs must be a number; got 'two'."),
    ("showdown digits --epochs 1e12", f"{MOST} 45,000,000,000,000."),
    ("train digits --epochs 1e308", f"{MOST} inf."),
    ("train digits --seconds 1e15", f"{MOST} "),
    ("showdown digits --steps 0", f"steps of the budget {WHOLE} 0."),
    ("showdown digits --steps 1.5", "--steps must be a whole number; got '1.5'."),
    ("showdown digits --steps 3 --epochs 1", "in one of epochs, steps and seconds; got epochs and steps"),
    ("train digits --seconds 0", f"seconds of the budget {ABOVE_0} 0.0."),
    ("train digits --batch-size many", "--batch-size must be a whole number; got 'many'."),
    ("train digits --set betas=0.9,1",
     "betas of Adam must be 2 numbers, each a number in [0, 1); got (0.9, 1.0)."),
    ("train digits --set betas=0.9,x",
     "--set betas must be 2 numbers, each a number in [0, 1); got '0.9,x'."),
    ("showdown digits --wrap clip_norm:0", f"limit of clip_norm {ABOVE_0} 0.0."),
    ("showdown digits --wrap clip_nrm:1", "must name a wrapper; got 'clip_nrm'. Did you mean clip_norm"),
    ("train digits --wrap clip_norm:x", f"limit of --wrap clip_norm {ABOVE_0} 'x'."),
    ("train digits --wrap clip_norm:1 --wrap clip_norm:2", "--wrap clip_norm must be given once; got twice."),
    ("train digits --wrap clip_norm:1,limit=2", "limit of --wrap clip_norm must be given once; got twice."),
    ("train digits --wrap clip_norm:lim=1", "--wrap clip_norm must have fields among limit; got lim=1."),
    ("showdown digits --seeds 0", f"seeds of the race {WHOLE} 0."),
    ("showdown digits --seeds 8,x", "--seeds must be a whole number; got 'x'."),
    ("showdown digits --seeds 16,8", "must be one or more numbers of seeds that increase; got [16, 8]."),
    ("showdown digits --target 0.9", "--target must be METRIC=VALUE; got '0.9'. Try accuracy=0.97."),
    ("showdown digits --target accuracy=high", "--target accuracy must be a number; got 'high'."),
    ("showdown digits --target f1=0.9", "the target must be of the metric that ranks, accuracy; got f1."),
    ("showdown digits --budget soon", "--budget must be a time such as 90s, 5m or 1h30m; got 'soon'."),
    ("showdown digits --budget 0s", f"seconds of the budget {ABOVE_0} 0.0."),
    ("showdown digits --budget 1m --epochs 2", "in one of epochs, steps and a time; got a time and epochs."),
    ("showdown digits --budget 0.1s", "the budget must leave at least "),
    ("showdown digits --optimizers adam --vary batch_size=8,0", f"batch_size of the recipe {WHOLE} 0."),
    ("showdown digits --optimizers adam --vary betas.1=0.9,1",
     "betas of Adam must be 2 numbers, each a number in [0, 1); got (0.9, 1.0)."),
    ("showdown digits --optimizers adam --vary batch_size=16,64 --steps 9",
     "a budget in steps must be for batches of one size; got batches of 16 and 64. Give epochs"),
    ("showdown digits --seed -1", "seed of the run must be a whole number in [0, 1e+09]; got -1."),
    ("train digits --seed one", "--seed must be a whole number; got 'one'."),
    ("showdown digits --threads 0", f"threads of the run {WHOLE} 0."),
    ("train digits --snapshot-every 0", f"snapshot_every of the run {WHOLE} 0."),
    ("schedules cosine --steps 0", f"--steps of the drawing {WHOLE} 0."),
    ("train digits --seed 99999999999999999999999", "must be a whole number in [0, 1e+09]; got 99"),
    ("train digits --rate 0.2 --set rate=0.1", "--set rate must be left out beside its own option; got 0.2."),
    ("train digits --batch-size 8 --set batch_size=16",
     "--set batch_size must be left out beside its own option; got 8."),
    ("showdown digits --out=", "--out must name a folder; got ''. Write . for the present one."),
    ("schedules cosine --out cosine.png", "--out must end in .html or .svg; got 'cosine.png'."),
    ("schedules cosine --out no/cosine.svg", "must be one that can be written; got No such file"),
    ("train digits --schedule step:every=-1", f"every of the schedule step {WHOLE} -1."),
    *((f"{command} digits --steps 5 --schedule warmup-cosine:warmup=9",
       "must be at least 10, because the warm-up takes 9; got 5.") for command in ("showdown", "train")),
    ("showdown digits --schedule cosine:clock=tokens", "must be steps or examples on this task; got tokens."),
]

RECIPES = [
    *((f'optimizer = "adam"\n[hyperparameters]\nbetas = {betas}',
       f"betas of Adam must be 2 numbers, each a number in [0, 1); got {betas}.")
      for betas in ("[0.9, 1.0]", "[-0.1, 0.999]", "[0.9, nan]", "[0.9]")),
    ("[hyperparameters]\nbeta = 0.9",
     "must be among lr, betas, eps, weight_decay, amsgrad, maximize, epsilon; got 'beta'."),
    ('optimiser = "adam"', "got 'optimiser'. Did you mean optimizer?"),
    ('optimizer = "adam', "the recipe must be a TOML document; got "),
    ('schedule = "cosine"', "a schedule must be a table with a name; got 'cosine'."),
    ('batch_size = "most"', f"batch_size of the recipe {WHOLE} 'most'."),
    ("batch_size = 1438", "got 1438."),
    ("rate = -0.1", f"rate of the recipe {ABOVE_0} -0.1."),
]

# A text of the task, what stands there instead, and what is said.
MISTAKES = [
    ("def loss(", "def loss((((", "the task file task.py must be Python; got "),
    *((f"def {name}(", "def other(", f"the task file task.py must define {name}; got a file without it.")
      for name in ("make_model", "make_data", "loss")),
    ("import torch\n", "import tourch\n", "got ModuleNotFoundError: No module named 'tourch'."),
    ("make_model()", "make_model(x)",
     "make_model of task must run without an error; got TypeError: make_model() "
     "missing 1 required positional argument: 'x'."),
    ("make_data(seed)", "make_data()",
     "make_data of task must run without an error; got TypeError: make_data() "
     "takes 0 positional arguments but 1 was given."),
    ("loss(model, batch)", "loss(model)",
     "loss of task must run without an error; got TypeError: loss() takes 1 "
     "positional argument but 2 were given."),
    (LOSS, f"{LOSS}\n\n\nloss = nn.CrossEntropyLoss()\n",
     "loss of task must run without an error; got TypeError: "
     "cross_entropy_loss(): argument 'input' (position 1) must be Tensor, not Linear."),
    (MODEL, "    nn.Linear(3, 3)", "make_model of task must return an nn.Module; got None."),
    (MODEL, "    return nn.Linear", "Call the class: return Net()."),
    (MODEL, "    return nn.ReLU()", "the model of task must have parameters to train; got none."),
    (MODEL, "    return nn.Linear(4, 3)",
     "loss of task must run without an error; got RuntimeError: mat1 and mat2"),
    (DATA, "    return None", "must be tensors, arrays or map-style datasets; got NoneType None."),
    (DATA, "    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, x.argmax(1)))",
     "must be the data, not batches of it, for Thalweg chooses batches and their order; got a DataLoader."),
    (DATA, "    return x[:0], x.argmax(1)[:0]", "must have at least one example; got none."),
    (DATA, "    return x[:2], x.argmax(1)[:2]", "must have at least 3 examples, one for each part; got 2."),
    (DATA, "    return x[:5], x.argmax(1)",
     "must have equally many examples in each of its arrays; got 5, 60."),
    (DATA, "    return x / 0, x.argmax(1)", "must be finite numbers; got NaN or infinity at example 0."),
    ("Classification(3)", "Classification(2)", "must be whole numbers from 0 to 1; got 2 at example"),
    (DATA, "    return x, x.argmax(1) - 1", "must be whole numbers from 0 to 2; got -1 at example"),
    (DATA, "    return x", "must stand where the kind of the task says; got nothing at -1."),
    ("Classification(3)", "3", "kind of task must be Classification(classes) or Regression(); got 3."),
    (LOSS, LOSS.replace("y)", "y, reduction='none')"),
     "must return a scalar, the mean over the batch; got shape (10,)"),
    (LOSS, LOSS + ".item()", "Return the tensor itself, without .item()."),
    (LOSS, LOSS + " * float('nan')", "must be finite before the first step; got nan."),
    (LOSS, LOSS + " / 0", "must be finite before the first step; got inf."),
    (LOSS, LOSS + ".detach()", "loss of task must depend on the parameters of the model"),
    (LOSS, "    return torch.tensor(1.0, requires_grad=True)", "must depend on the parameters of the model"),
    (LOSS, f"{LOSS}\n\n\ndef metrics(model, batch):\n    return {{'quality': 1.0}}\n",
     "the metric quality of task must have a direction; got none."),
    ("epochs = 2", "epochs = 0", f"epochs of task {ABOVE_0} 0."),
]

# What runs alone, and not as a replica.
LONERS = [
    (LOSS, f"    found = {LOSS.removeprefix('    return ')}\n    return found if found > 0 else -found",
     "must be one that can run this model; got fleet, but it cannot be stacked: vmap: It looks like you're "
     "attempting to use a Tensor in some data-dependent control flow. Take --executor processes, or auto."),
    (LOSS, f"{LOSS} * (1 + 0 * x.sum().item() * model(x).sum().item())",
     "got fleet, but it cannot be stacked: vmap: It looks like you're calling .item() on a Tensor. Take"),
]

ALL_OF_MNIST = [f"folder/mnist/{name}-ubyte.gz" for name in
                ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")]
NO_TABLES = {f"thalweg-runs/{FILE_NAME}": "These are no tables. " * 100}
FILES: list[tuple[Files, str, str]] = [
    ({}, "train digits --recipe recipe.toml",
     "the recipe recipe.toml must be a readable file; got No such file"),
    ({}, "showdown task.py", "the task file task.py must be readable; got No such file"),
    ({"tsk.py": TASK}, "showdown task.py", "got No such file or directory. Did you mean tsk.py?"),
    ({"task.py/inside": ""}, "train task.py", "the task file task.py must be readable; got Is a directory."),
    ({"task.py": "a\0b"}, "showdown task.py", "the task file task.py must be Python; got "),
    ({"task.py": b"a = '\xff'"}, "showdown task.py", "the task file task.py must be Python; got "),
    ({"task.py": TASK}, "showdown task.py:tsk",
     "the task file task.py must define tsk; got a file without it."),
    ({"task.py": TASK}, "train task.py:epochs",
     "epochs of task.py must be a Task or a function returning one; got 2."),
    ({"task.py": TASK}, "train task.py:loss",
     "must run without an error; got TypeError: loss() missing 2 required"),
    (mistaken(MODEL, "    return nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3))"),
     "train task.py --set micro_batch=2",
     "micro_batch of the recipe must be left out for a model with BatchNorm"),
    ({}, "showdown mnist",
     "the data folder of mnist must be named; got none. Give --data DIR or set THALWEG_DATA"),
    ({}, "showdown mnist --data nowhere", "the data folder nowhere must be a folder; got no such folder."),
    ({"folder": ""}, "train mnist --data folder", "the data folder folder must be a folder; got a file."),
    ({"folder/other": ""}, "showdown fashion-mnist --data folder", "must hold the files of fashion-mnist ("),
    (dict.fromkeys(ALL_OF_MNIST, "no images"), "showdown mnist --data folder",
     "train-images-idx3-ubyte.gz must have the published checksum (sha256 440fcabf73cc…); got "),
    *((files, f"{command} digits --out {out}", f"folder {out} must be a folder that can be used; got {got}.")
      for command in ("showdown", "train")
      for files, out, got in (
          ({"out": "a file"}, "out", "a file"),
          ({"out": "a file"}, "out/below", "Not a directory"),
          ({}, "/proc/x", "No such file or directory"),
          ({}, "/dev/null", "a file"),
      )),
    *((NO_TABLES, command, "must be a file of Thalweg's; got a file that is no SQLite database.")
      for command in ("showdown digits", "train digits", "runs", "report")),
    ({f"thalweg-runs/{FILE_NAME}/inside": ""}, "showdown digits",
     "must be a file; got a link, a folder or a device."),
]
# fmt: on

CASES: list[tuple[Files, str, str]] = [
    *(({}, arguments, expected) for arguments, expected in (*NAMES, *NUMBERS)),
    *(({"recipe.toml": text}, "train digits --recipe recipe.toml", expected) for text, expected in RECIPES),
    *((mistaken(old, new), "showdown task.py", expected) for old, new, expected in MISTAKES),
    *((mistaken(old, new), "train task.py", expected) for old, new, expected in MISTAKES[-2:]),
    *((mistaken(old, new), "showdown task.py --executor fleet", expected) for old, new, expected in LONERS),
    *FILES,
]


def place(folder: Path, files: Files) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def check(done: Done, expected: str) -> None:
    """One sentence in the grammar, nothing else, and the exit code of bad input."""
    assert done.err.startswith("thalweg: ")
    assert expected in done.err
    assert SENTENCE.fullmatch(done.err.rstrip("\n"))
    assert "Traceback" not in done.err
    assert "site-packages" not in done.err
    assert (done.code, done.out) == (2, "")


@pytest.mark.parametrize(
    ("files", "arguments", "expected"), CASES, ids=lambda x: x if isinstance(x, str) else ""
)
def test_what_cannot_work_is_refused_in_one_sentence_and_nothing_is_written(
    tmp_path: Path, call: Call, files: Files, arguments: str, expected: str
) -> None:
    place(tmp_path, files)
    before = contents(tmp_path)

    done = call(*shlex.split(arguments))

    check(done, expected)
    (tmp_path / "task.log").unlink(missing_ok=True)  # written by the task itself
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("files", "arguments", "expected"),
    [
        ({}, "showdown digits --optimizers adm", "got 'adm'. Did you mean adam"),
        (
            mistaken(LOSS, LOSS + ".detach()"),
            "showdown task.py",
            "loss of task must depend on the parameters",
        ),
        (
            {"out": "a file"},
            "train digits --out out",
            "folder out must be a folder that can be used; got a file.",
        ),
    ],
)
def test_the_installed_command_refuses_alike(
    tmp_path: Path, files: Files, arguments: str, expected: str
) -> None:
    place(tmp_path, files)
    before = contents(tmp_path)

    done = run(tmp_path, *shlex.split(arguments))

    check(done, expected)
    (tmp_path / "task.log").unlink(missing_ok=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("old", "new", "function"),
    [
        (MODEL, "    return nn.Linear(3, tree)", "make_model"),
        (DATA, "    return x, tree", "make_data"),
        (LOSS, "    return inner(model, x)\n\n\ndef inner(model, x):\n    return tree", "loss"),
    ],
)
def test_an_error_in_a_task_is_shown_at_the_lines_of_its_file_and_no_others(
    tmp_path: Path, call: Call, old: str, new: str, function: str
) -> None:
    place(tmp_path, mistaken(old, new))
    source = (tmp_path / "task.py").read_text().splitlines()
    where = next(number for number, line in enumerate(source, 1) if "tree" in line)

    done = call("showdown", "task.py")

    first, *lines = done.err.splitlines()
    assert first == (
        f"thalweg: {function} of task must run without an error; got NameError: name 'tree' is not defined. "
        "It was raised here:"
    )
    assert lines[-2] == f"  task.py, line {where}, in {'inner' if function == 'loss' else function}"
    assert lines[-1] == f"    {source[where - 1].strip()}"
    assert len(lines) == (4 if function == "loss" else 2)
    assert (done.code, done.out) == (2, "")


def test_a_task_that_fails_in_the_middle_of_a_race_keeps_what_was_finished(
    tmp_path: Path, call: Call
) -> None:
    late = "    if calls(model) > 40:\n        raise RuntimeError('the disk of the task is gone')\n" + LOSS
    counting = "\n\ndef calls(model):\n    return LOG.stat().st_size\n"
    place(tmp_path, {"task.py": TASK.replace(LOSS, late) + counting})

    done = call("showdown", "task.py", "--rates", "sgd=0.1,adam=0.01", "--optimizers", "sgd,adam")

    assert done.code == 2
    assert "got RuntimeError: the disk of the task is gone. It was raised here:\n  task.py, line " in done.err
    with Store.open(tmp_path / "thalweg-runs", create=False) as store:
        (race,) = store.races()
    assert race.finished_at is None
    assert 0 < race.trials_done < race.trials_planned


@pytest.mark.parametrize("command", ["showdown", "train"])
def test_a_locked_store_is_refused_and_left_as_it_was(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    Store.open(tmp_path / "thalweg-runs").close()
    monkeypatch.setattr(opening, "LOCK_SECONDS", 0.05)
    before = contents(tmp_path)
    with closing(sqlite3.connect(tmp_path / "thalweg-runs" / FILE_NAME, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        done = call(command, "digits", "--steps", "3")

    check(done, "must be free; got a file locked by another process. Wait until that has ended")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("command", ["showdown digits", "train digits", "runs", "report"])
def test_a_store_of_a_newer_version_is_refused_and_left_as_it_was(
    tmp_path: Path, call: Call, command: str
) -> None:
    Store.open(tmp_path / "thalweg-runs").close()
    with closing(sqlite3.connect(tmp_path / "thalweg-runs" / FILE_NAME)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = contents(tmp_path)

    done = call(*command.split())

    check(done, "must have a schema version from 1 to 1; got 99. A newer Thalweg wrote it: update thalweg")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("command", ["showdown", "train"])
def test_a_damaged_store_is_refused_and_left_as_it_was(tmp_path: Path, call: Call, command: str) -> None:
    Store.open(tmp_path / "thalweg-runs").close()
    file = tmp_path / "thalweg-runs" / FILE_NAME
    file.write_bytes(file.read_bytes()[:4096] + b"\xff" * (file.stat().st_size - 4096))
    before = contents(tmp_path)

    done = call(command, "digits", "--steps", "3")

    check(done, "must be an undamaged database; got a damaged file.")
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("showdwn digits", "No such command 'showdwn'. Did you mean 'showdown'? See: thalweg --help"),
        ("showdown", "Missing argument 'TASK'. See: thalweg showdown --help"),
        ("train digits wine", "Got unexpected extra argument (wine). See: thalweg train --help"),
        ("tasks --nonsense", "No such option '--nonsense'. See: thalweg tasks --help"),
    ],
)
def test_what_is_typed_wrongly_is_answered_in_one_line(call: Call, arguments: str, said: str) -> None:
    done = call(*arguments.split())

    assert done.err == f"thalweg: {said}\n"
    assert (done.code, done.out) == (2, "")
