"""A comparison of batch sizes as a page, text and JSON: records are made up, so that every case is there."""

import dataclasses
import json
import math
import re
import shutil
import subprocess
import sys

import pytest
from playwright.sync_api import sync_playwright

from thalweg.api.sampling_rows import judged
from thalweg.records.sampling import (
    IN_ORDER,
    SHUFFLED,
    WITH_REPLACEMENT,
    GradientVariance,
    Moment,
    SamplingComparison,
    SamplingRow,
    TriedRate,
    VarianceSlope,
    WeightPath,
)
from thalweg.report import sampling, sampling_words
from thalweg.report.sampling_figures import curve

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
EVIL = "</script><img src=x onerror=alert(1)>"
N, SEEDS = 100, 8


def row(name: str, size: int, way: str, loss: float, seconds: float = 1e-3, **changes: object) -> SamplingRow:
    """A row of two epochs whose loss falls to a level, a little apart on each seed."""
    per_epoch = math.ceil(N / size)

    def moment(epoch: float) -> Moment:
        level = loss + (2 - loss) * 0.5 ** (4 * epoch)
        losses = tuple(level * (1 + 0.01 * k) for k in range(SEEDS))
        return Moment(round(epoch * per_epoch), epoch, losses, tuple(1.1 * x for x in losses))

    moments = (moment(0), moment(1), moment(2))
    again = way == WITH_REPLACEMENT
    made = SamplingRow(
        name=name,
        batch_size=size,
        sampling=way,
        updates_per_epoch=per_epoch,
        counted=per_epoch,
        steps=2 * per_epoch,
        epochs=2.0,
        cut=False,
        rate=0.1,
        edge=None,
        tried=(TriedRate(0.1, loss), TriedRate(1.0, None)),
        update_seconds=seconds,
        memory_bytes=1e4,
        coverage=0.63 if again else 1.0,
        coverage_expected=0.634 if again else 1.0,
        moments=moments,
        equal_epochs=moments[-1],
        equal_updates=moments[1],
        equal_seconds=moments[1],
        train_loss=loss,
        train_interval=(0.9 * loss, 1.1 * loss),
        validation_loss=1.1 * loss,
        validation_interval=(loss, 1.2 * loss),
    )
    return dataclasses.replace(made, **changes)


def record(*rows: SamplingRow, **changes: object) -> SamplingComparison:
    shown = rows or (
        row("full batch", N, SHUFFLED, 1.0),
        row("batch 10", 10, SHUFFLED, 0.1),
        row("batch 1", 1, SHUFFLED, 0.2),
        row("batch 10, in order", 10, IN_ORDER, 0.3),
        row("batch 10, with replacement", 10, WITH_REPLACEMENT, 0.1),
    )
    laws = (("without replacement", lambda b: 1 / b - 1 / N), (WITH_REPLACEMENT, lambda b: 0.99 / b))
    made = SamplingComparison(
        task="points",
        optimizer="sgd",
        examples=N,
        measured_examples=N,
        validation_examples=20,
        parameters=12,
        mini_batch=10,
        epochs=2.0,
        most_updates=1000,
        seed=0,
        tuning_seeds=3,
        final_seeds=SEEDS,
        grid=(0.1, 1.0),
        rows=shown,
        sizes=judged([r for r in shown if r.sampling == SHUFFLED], 2.0),
        samplings=judged([r for r in shown if r.batch_size == 10], 2.0),
        slopes=(VarianceSlope("start", -1.01, 1.0, N), VarianceSlope("end", -0.99, 2.0, N)),
        variances=tuple(
            GradientVariance(moment, way, b, 128, 1.1 * law(b), law(b))
            for moment in ("start", "end")
            for way, law in laws
            for b in (1, 2, 4, 8)
        ),
        paths=(
            WeightPath("full batch", (0.0, 1.0), (0.0, 0.0), 1.0, 1.0, 0.9),
            WeightPath("batch 10", (0.0, 1.0, 2.0), (0.0, 1.0, 0.0), 3.0, 2.0, 0.8),
        ),
        compared_epochs=2.0,
        explained=0.95,
        left_out=(),
        executor="auto",
        threads=1,
        command="thalweg sampling points",
    )
    return dataclasses.replace(made, **changes)


def said(**changes: object) -> str:
    return "\n".join(sampling_words.sentences(record(**changes)))


def figures_in(text: str) -> list[dict]:
    return [json.loads(x) for x in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text)]


def test_a_winner_is_said_first_and_recommended():
    made = record()

    assert made.sizes.winner == "batch 10"
    assert sampling_words.sentences(made)[0].startswith("Take batch 10: validation loss 0.110 [0.100, 0.120]")
    assert sampling_words.recommended(made).name == "batch 10"


def test_among_those_that_tie_the_quickest_is_preferred_and_the_tie_admitted():
    slow = row("batch 1", 1, SHUFFLED, 0.1)
    made = record(row("full batch", N, SHUFFLED, 1.0), row("batch 10", 10, SHUFFLED, 0.1), slow)

    assert made.sizes.winner is None
    assert (
        "What sets it apart from batch 1 may be chance (8 seeds), and an epoch of that takes 10 times as"
        in (sampling_words.sentences(made)[0])
    )


def some_lost(made: SamplingRow, seeds: int) -> SamplingRow:
    """A row that diverged on the first seeds: their losses end at none, and there is no mean."""
    none = (None,) * seeds
    moments = [
        dataclasses.replace(m, train=(*none, *m.train[seeds:]), validation=(*none, *m.validation[seeds:]))
        for m in made.moments
    ]
    return dataclasses.replace(
        made,
        moments=tuple(moments),
        equal_epochs=moments[-1],
        train_loss=None,
        train_interval=None,
        validation_loss=None,
        validation_interval=None,
    )


def test_a_quicker_rival_that_diverged_more_often_is_not_preferred():
    quick = some_lost(row("full batch", N, SHUFFLED, 0.1), 1)
    made = record(quick, row("batch 10", 10, SHUFFLED, 0.1))

    assert set(made.sizes.tie) == {"full batch", "batch 10"}
    assert sampling_words.recommended(made).name == "batch 10"
    assert sampling_words.sentences(made)[0].endswith(
        "What sets it apart from full batch may be chance (8 seeds), and full batch diverged on more of them."
    )


def test_where_each_lost_a_seed_the_one_that_is_taken_says_so():
    rows = [some_lost(row(f"batch {b}", b, SHUFFLED, 0.1), 1) for b in (10, 1)]
    made = record(*rows, paths=())
    text = sampling_words.sentences(made)

    assert text[0].startswith("Take batch 10: it diverged on 1 of 8 seeds.")
    assert "with 95 % intervals" not in sampling.losses(made).caption
    assert sampling.html(made)


def test_what_diverged_on_every_seed_is_not_recommended():
    rows = [some_lost(row(f"batch {b}", b, SHUFFLED, 0.1), SEEDS) for b in (10, 1)]

    assert sampling_words.recommended(record(*rows)) is None
    assert sampling_words.sentences(record(*rows))[0] == (
        "No batch size could be trained: every rate that was tried diverged."
    )
    assert sampling_words.sentences(record(*rows, grid=()))[0].endswith("every rate that was given diverged.")


def test_a_path_of_one_point_has_no_length_to_be_compared():
    one = WeightPath("full batch", (0.0,), (0.0,), 0.0, 0.0, 0.0)
    assert "walk so many times" not in said(paths=(one, record().paths[1]))


def test_updates_of_an_epoch_costs_noise_and_path_are_said():
    text = said()

    assert "⌈N/B⌉ with N = 100: full batch 1, batch 10 10 and batch 1 100." in text
    assert "An epoch takes: full batch 1.0 ms, batch 10 10.0 ms and batch 1 100 ms" in text
    assert "−1.01 at the start and −0.99 after training" in text
    assert "full batch 1 and batch 10 1.5." in text
    assert "63.0 % of the examples" in text
    assert "shuffled and with replacement cannot be told apart; in order is behind shuffled" in text


def test_edges_cuts_divergence_and_what_was_left_out_are_said():
    lost = Moment(20, 2.0, (None,) * SEEDS, (None,) * SEEDS)
    rows = (
        row("full batch", N, SHUFFLED, 1.0, edge="highest"),
        row("batch 10", 10, SHUFFLED, 0.1, equal_epochs=lost, validation_loss=None),
        row("batch 1", 1, SHUFFLED, 0.2, cut=True, epochs=0.5),
    )
    text = "\n".join(sampling_words.sentences(record(*rows, left_out=("Batch 3 was left out: why.",))))

    assert "The rate of full batch is the highest that was tried: a higher one may be better." in text
    assert "Batch 10 diverged on 8 of 8 seeds" in text
    assert "Batch 1 was trained for 0.5 epochs instead of 2: no training may take more" in text
    assert "It came to validation loss 0.220 [0.200, 0.240], and has no part in the comparison." in text
    assert text.endswith("Batch 3 was left out: why.")


def test_larger_batches_are_only_said_to_be_worth_more_where_they_were():
    worse = row("full batch", N, SHUFFLED, 1.0)
    worse = dataclasses.replace(worse, equal_updates=worse.moments[0])

    assert "worth more" not in "\n".join(
        sampling_words.sentences(record(worse, row("batch 10", 10, SHUFFLED, 0.1)))
    )


def test_text_fits_100_columns_and_json_is_json():
    made = record()

    assert max(map(len, sampling.text(made).splitlines())) <= 100
    assert max(map(len, sampling.terminal(made, width=72).splitlines())) <= 72
    answer = json.loads(json.dumps(sampling.as_json(made), allow_nan=False))
    assert answer["recommended"] == "batch 10"
    assert [r["path_ratio"] for r in answer["rows"]] == [1.0, 1.5, None, None, None]
    assert answer["variance"][0] == {
        "moment": "start",
        "sampling": "without replacement",
        "batch_size": 1,
        "draws": 128,
        "measured": 1.1 * 0.99,
        "expected": 0.99,
    }


def test_page_shows_curves_laws_and_paths_as_recorded():
    made = record()
    loss, _, start, end, paths = figures_in(sampling.html(made))
    medians = {t["legendgroup"]: t["y"] for t in loss["data"] if t.get("name")}

    assert medians == {r.name: list(curve(r, "train").median) for r in made.rows}
    assert loss["axes"]["updates"] == {
        "title": "Updates",
        "type": "log",
        "x": {r.name: [m.updates for m in r.moments] for r in made.rows},
    }
    assert start["data"][0]["y"] == [v.expected for v in made.variances[:4]]
    assert end["data"][1]["y"] == [v.measured for v in made.variances[8:12]]
    assert start["layout"]["xaxis"]["type"] == start["layout"]["yaxis"]["type"] == "log"
    assert paths["data"][2]["y"] == [0.0, 1.0, 0.0]
    assert paths["layout"]["yaxis"]["scaleanchor"] == "x"


def test_what_a_person_wrote_cannot_become_markup():
    text = sampling.html(record(task=EVIL, command=EVIL, left_out=(EVIL,)))

    assert EVIL not in text


def test_a_comparison_of_one_without_variance_or_path_has_a_page_too():
    made = record(row("batch 10", 10, SHUFFLED, 0.1), slopes=(), variances=(), paths=())

    assert "has no other to be compared with" in sampling_words.sentences(made)[0]
    ordered = record(row("batch 10", 10, SHUFFLED, 0.1), row("batch 10, in order", 10, IN_ORDER, 0.3))
    assert sampling_words.sentences(ordered)[0].startswith(
        "Order of the examples, in batches of 10: shuffled is better than in order."
    )
    assert len(figures_in(sampling.html(made))) == 2


def test_it_is_drawn_without_torch():
    code = "import sys, thalweg.report.sampling; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"


DRAWN = """(name) => {
  const plot = document.querySelector(`[data-figure="${name}"]`);
  return {title: plot.layout.xaxis.title.text, type: plot.layout.xaxis.type, x: plot.data.map(t => t.x),
          shown: plot.data.filter(t => t.visible !== false).map(t => t.legendgroup)};
}"""


@pytest.mark.slow
@pytest.mark.skipif(not BROWSER, reason="no chromium on PATH")
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_page_in_a_browser_needs_no_network_and_works_by_keyboard(width, scheme, tmp_path):
    made, wrong = record(), []
    path = sampling.write(made, tmp_path / "sampling.html")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
        ).new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text))
        page.on("request", lambda request: request.url == path.as_uri() or wrong.append(request.url))
        page.goto(path.as_uri())

        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.locator('input[name="sampling-axis"][value="epochs"]').focus()
        page.keyboard.press("ArrowRight")
        drawn = page.evaluate(DRAWN, "sampling-along-1")
        assert (drawn["title"], drawn["type"]) == ("Updates", "log")
        assert drawn["x"][0] == [m.updates for m in made.rows[0].moments]
        page.locator('input[name="sampling-axis"][value="epochs"]').check()
        assert page.evaluate(DRAWN, "sampling-along-1")["type"] == "linear"
        page.locator('input[data-show="batch 10"]').first.uncheck()
        for figure in ("sampling-along-1", "sampling-along-2", "sampling-paths"):
            assert "batch 10" not in page.evaluate(DRAWN, figure)["shown"]
        heard = page.evaluate(
            "[...document.querySelectorAll('.plot')].map(p => p.getAttribute('aria-label'))"
        )
        assert len(heard) == 5
        assert all(heard)
        browser.close()
    assert wrong == []
