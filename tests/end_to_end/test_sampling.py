"""`thalweg sampling`, as it is typed."""

import json

import pytest

GIVEN = ("--lr", "all=1,32=0.3,1=0.03", "--epochs", "2", "--seeds", "2")


def test_it_answers_in_words_and_a_table(call):
    done = call("sampling", "wine", *GIVEN)

    assert (done.code, done.err) == (0, "")
    assert "⌈N/B⌉ with N = 142: full batch 1, batch 32 5 and batch 1 142." in done.out
    assert "Rates were given: full batch 1, batch 32 0.3, batch 1 0.03" in done.out
    assert max(map(len, done.out.splitlines())) <= 100


def test_it_answers_as_json_and_draws_a_page(call, tmp_path):
    done = call("sampling", "wine", *GIVEN, "--samplings", "shuffled", "--out", "page.html", "--json")
    answer = json.loads(done.out)

    assert done.code == 0
    assert [r["updates_per_epoch"] for r in answer["rows"]] == [1, 5, 142]
    assert all(r["updates_per_epoch"] == r["updates_per_epoch_counted"] for r in answer["rows"])
    for moment in ("start", "end"):
        found = [v for v in answer["variance"] if v["moment"] == moment]
        assert {v["sampling"] for v in found} == {"with replacement", "without replacement"}
        (slope,) = [s["slope"] for s in answer["slopes"] if s["moment"] == moment]
        assert slope == pytest.approx(-1, abs=0.2)  # 128 draws of gradients with heavy tails
    assert answer["report"] == "page.html"
    assert (tmp_path / "page.html").read_text().startswith("<!DOCTYPE html>")


@pytest.mark.slow
def test_digits_with_its_defaults(call):
    answer = json.loads(call("sampling", "digits", "--json").out)
    full, mini, single, order, again = answer["rows"]

    assert [r["updates_per_epoch"] for r in (full, mini, single)] == [1, 45, 1437]
    assert [r["epochs"] for r in answer["rows"]] == [10.0] * 5
    assert full["train_loss"] > 5 * mini["train_loss"] > 5 * single["train_loss"]
    assert answer["sizes"]["tie"] == ["batch 32", "batch 1"]
    assert full["path_ratio"] < 2 < mini["path_ratio"] < single["path_ratio"]
    assert full["rate"] > mini["rate"] > single["rate"]
    assert again["coverage"] == pytest.approx(1 - (1 - 1 / 1437) ** 1437, abs=0.01)
    assert full["coverage"] == order["coverage"] == 1.0
    assert all(s["slope"] == pytest.approx(-1, abs=0.1) for s in answer["slopes"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--batch-sizes", "2.5"], "--batch-sizes must be a whole number"),
        (["--batch-sizes", "0"], "batch_sizes of the comparison must be a whole number"),
        (["--lr", "fast"], "--lr must be a number"),
        (["--lr", "1=0.1,1=0.2"], "--lr of 1 must be given once"),
        (["--lr", "1=0.1,0.2"], "--lr must be RATE, or B=RATE for each batch size"),
        (["--samplings", "sorted"], "the samplings must be among shuffled"),
        (["--optimizer", "sgdd"], "Did you mean sgd"),
        (["--out", "."], "--out must name a file"),
        (["--executor", "gpu"], "the executor must be one of"),
    ],
)
def test_what_cannot_work_is_refused_before_it_begins(call, arguments, said):
    done = call("sampling", "wine", *arguments)

    assert (done.code, done.out) == (2, "")
    assert said in done.err
