"""How long one waits: for help, for the import, for a first race on digits, and to see it again.

    python benchmarks/startup.py

Every command runs in a fresh process, and its whole time on the clock counts. The peer is a Python that
does nothing, and one that imports torch, which whoever trains with PyTorch waits for anyway. The race is
`thalweg showdown digits` as `make showdown` runs it, in a folder that is thrown away.
"""

import subprocess
import sys
import tempfile
import time
from collections import Counter
from statistics import median
from typing import Any

from _common import conditions, interleaved, save, show

REPEATS = 10
PROGRAM = "from thalweg.cli.app import main; main()"  # what the command `thalweg` runs
LIMITS = {"thalweg --help": 0.3, "thalweg showdown digits": 90.0}  # seconds


def command(*words: str) -> list[str]:
    return [sys.executable, "-c", *words]


def seconds(words: list[str]) -> float:
    """Return how long a command takes from its start to its end."""
    start = time.perf_counter()
    subprocess.run(words, check=True, capture_output=True)
    return time.perf_counter() - start


def import_seconds(words: list[str]) -> Counter[str]:
    """Return how long a command spends importing, by package: each module without what it imports."""
    words = [words[0], "-X", "importtime", *words[1:]]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stderr
    found: Counter[str] = Counter()
    for line in said.splitlines():
        own, _, name = line.removeprefix("import time:").partition("|")
        if line.startswith("import time:") and own.strip().isdigit():
            package = name.rpartition("|")[2].strip().partition(".")[0]
            found[package if package not in sys.stdlib_module_names else "Python's own"] += int(own)
    return Counter({package: 1e-6 * microseconds for package, microseconds in found.items()})


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        race = command(PROGRAM, "showdown", "digits", "--out", folder)
        first = seconds(race)
        again = import_seconds(race)
        commands = {
            "thalweg --help": command(PROGRAM, "--help"),
            "import thalweg": command("import thalweg"),
            "thalweg showdown digits, shown again": race,
            "peer: a Python that does nothing": command("pass"),
            "peer: import torch": command("import torch"),
        }
        measured = interleaved(
            {name: lambda w=words: seconds(w) for name, words in commands.items()}, REPEATS
        )
    results: dict[str, Any] = {name: median(times) for name, times in measured.items()}
    results["thalweg showdown digits"] = first
    rows: list[tuple[str, ...]] = [("", "seconds", "must be under")]
    for name, value in results.items():
        rows.append((name, f"{value:.3g}", f"{LIMITS[name]:g}" if name in LIMITS else ""))
    print(f"\nFresh processes, medians of {REPEATS}; the race once:")
    show(rows)

    total = sum(again.values())
    print(f"\nShown again, {total:.2f} s go into imports (measuring them makes them slower):")
    top = again.most_common(8)
    show([("package", "seconds"), *((name, f"{value:.2f}") for name, value in top)])
    print()
    save("startup", conditions(), {"seconds": results, "imports_when_shown_again": dict(top)})


if __name__ == "__main__":
    main()
