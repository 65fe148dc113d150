"""What the answer about a batch size says, for made-up measurements."""

import json
from dataclasses import replace
from typing import Any

import pytest

from thalweg.api.batch import BatchSize, rate_sentences
from thalweg.curvature import NoiseScale
from thalweg.finder.batch import Advice, End, Noise, Timing, Timings
from thalweg.records import Answer, Finding

START = NoiseScale(20.0, 16.0, 25.0, squared_gradient=1.0, covariance_trace=20.0, batches=8)
AFTER = NoiseScale(60.0, 50.0, 75.0, squared_gradient=1.0, covariance_trace=60.0, batches=8)
# What the law says of 60 (1/B − 1/1000), but 2 % less at 4 examples.
VARIANCES = ((2, 29.94), (4, 14.94 * 0.98), (8, 7.44), (16, 3.69))
SIZES = (
    Timing(2, 100e-6, 1e6, 1),
    Timing(32, 120e-6, 2e6, 1),
    Timing(64, 150e-6, 3e6, 1),
    Timing(128, 250e-6, 5e6, 2),
)


def finding(suggestion: float | None, low: float = 0.0, high: float = 0.0, **more: Any) -> Finding:
    outcome = Answer.FLAT if suggestion is None else Answer.FOUND
    ends = (None, None) if suggestion is None else (low, high)
    said = more.pop("said", ("No rate moved the loss by more than its noise.",))
    return Finding(
        "adam", outcome, suggestion, *ends, None, (), (), (), (), (), 10, 3, 400, {}, said, **more
    )  # fmt: skip


ANSWER = BatchSize(
    task="made-up",
    optimizer="adam",
    rate=0.001,
    present=32,
    examples=1000,
    memory_limit=1e9,
    noise=Noise(START, AFTER, 300, VARIANCES),
    timings=Timings(SIZES, End.MEMORY, ()),
    advice=Advice(64, 32, 64, 128, (10.69, 1.19, 1.0, 1.26)),
    rates=((32, finding(0.002, 0.001, 0.004)), (64, finding(0.003, 0.002, 0.005))),
)


def test_the_answer_as_text() -> None:
    assert (
        str(ANSWER)
        == """\
Take batches of 64: there noise and this machine together make training shortest. From 32 to 64 it
takes at most a tenth longer; where memory matters, take 32.
The present 32 is one of those: there is no need to change it.
Noise: the gradient noise scale is 60 examples (95 % interval 50 to 75) after 300 updates with adam
at 0.001, which counts, and 20 examples (95 % interval 16 to 25) at the start. Twice the batch saves
nearly half of the updates far below that size, and hardly any far above.
Time: an update takes 100 µs with 2 examples and 250 µs with 128, where throughput is best: 512,000
examples a second. From 128 on it is within a tenth of that. The largest size that was timed is 128:
the next one takes more memory than it may.
Rate of adam with batches of 32: 0.002 (0.001 to 0.004).
Rate of adam with batches of 64: 0.003 (0.002 to 0.005).
Scaled by rule, it would be 0.00283, which is among the rates found there. The rule: square-root
rule: γ × √κ, where the noise of the gradient outweighs its mean (Malladi et al. 2022 (arXiv
2205.10287)).

batch size  an update  examples/s  updates  examples   time
         2     100 µs      20,000       31      1.03  10.69
        32     120 µs     267,000     2.88      1.53   1.19
      → 64     150 µs     427,000     1.94      2.07   1.00
       128     250 µs     512,000     1.47      3.13   1.26
Updates and examples: how many times the fewest possible, by the noise scale. Time: of a training, 1
the shortest."""
    )


def test_the_answer_as_json_has_every_number() -> None:
    found = json.loads(json.dumps(ANSWER.to_json(), allow_nan=False))

    assert [found[name] for name in ("batch_size", "low", "high", "present", "knee")] == [64, 32, 64, 32, 128]
    scale = found["noise_scale"]
    assert [scale[name] for name in ("value", "low", "high", "updates")] == [60.0, 50.0, 75.0, 300]
    assert (scale["at_start"]["value"], scale["after"]["covariance_trace"]) == (20.0, 60.0)
    assert found["sizes"][1] == {
        "batch_size": 32,
        "update_seconds": 120e-6,
        "examples_per_second": 32 / 120e-6,
        "predicted": 1.19,
        "memory": 2e6,
        "threads": 1,
    }
    assert found["variances"][1] == {
        "batch_size": 4,
        "measured": 14.94 * 0.98,
        "expected": pytest.approx(14.94, rel=1e-12),
    }
    assert (found["end"], found["memory_limit"]) == ("the next one takes more memory than it may", 1e9)
    assert found["sentences"] == list(ANSWER.sentences)
    assert [(rate["batch_size"], rate["suggestion"]) for rate in found["rates"]] == [(32, 0.002), (64, 0.003)]


def test_the_variance_is_held_against_the_law_where_it_rests_on_enough_batches() -> None:
    variances = (*VARIANCES, (32, 1.0), (64, 0.5), (128, 0.3))

    said = replace(ANSWER, noise=Noise(START, AFTER, 300, variances)).sentences

    assert (
        "Twice the examples halve the variance of the gradient: from 2 to 16 it was measured within 2 % of "
        "tr Σ (1/B − 1/1000)."
    ) in said


def said_of(present: int, advice: Advice) -> tuple[str, str]:
    return replace(ANSWER, present=present, advice=advice).sentences[:2]  # type: ignore[return-value]


def test_what_is_said_of_the_present_size() -> None:
    alone = Advice(64, 64, 64, 64, (10.69, 1.39, 1.0, 1.26))
    up = Advice(64, 64, 128, 64, (10.69, 1.39, 1.0, 1.06))

    assert said_of(64, alone) == (
        "Take batches of 64: there noise and this machine together make training shortest.",
        "That is the present size.",
    )
    assert said_of(2, alone)[1] == "The present 2 is predicted to take 11 times as long."
    assert said_of(256, alone)[1] == "The present 256 takes more memory than it may."
    assert said_of(32, up) == (
        "Take batches of 64: there noise and this machine together make training shortest. From 64 to 128 it "
        "takes at most a tenth longer.",
        "The present 32 is predicted to take 1.4 times as long.",
    )


def test_where_the_gradient_cannot_be_told_from_noise_a_lower_end_is_said() -> None:
    unknown = NoiseScale(None, 4321.0, None, squared_gradient=-0.1, covariance_trace=60.0, batches=8)
    answer = replace(ANSWER, noise=Noise(START, unknown, 300, VARIANCES))

    assert (
        "the gradient noise scale is at least 4,320 examples (its gradients cannot be told from noise) after"
    ) in answer.sentences[2]
    assert answer.to_json()["noise_scale"]["value"] is None
    # 1 + 4321 / 64
    assert " 68.5 " in str(answer)


def test_where_there_is_no_noise_examples_are_not_multiplied() -> None:
    none = NoiseScale(0.0, 0.0, 0.0, squared_gradient=1.0, covariance_trace=0.0, batches=8)

    answer = replace(ANSWER, noise=Noise(none, none, 300, ((2, 0.0), (4, 0.0), (8, 0.0), (16, 0.0))))

    assert "→ 64     150 µs     427,000        1         –   1.00" in str(answer)


def test_a_training_that_learnt_nothing_is_said_to_have_learnt_nothing() -> None:
    said = replace(ANSWER, noise=Noise(START, None, 225, VARIANCES), rate=10.0).sentences[2]

    assert said == (
        "Noise: the gradient noise scale is 20 examples (95 % interval 16 to 25) at the start, which alone "
        "counts here: 225 updates with adam at 10 did not lower the loss. Give another rate."
    )


def test_sizes_that_were_left_out_are_said_with_their_reasons() -> None:
    timings = Timings(SIZES, End.EXAMPLES, ((1, "ValueError: Expected more than 1 value.\nAnd more."),))

    said = replace(ANSWER, timings=timings).sentences

    assert "Batches of 1 were left out: ValueError: Expected more than 1 value." in said


def test_a_rate_that_the_rule_misses_and_methods_without_a_rule() -> None:
    pair = ((32, finding(0.002, 0.001, 0.004)), (128, finding(0.001, 0.0005, 0.002)))

    missed = rate_sentences("momentum", pair)
    assert missed[2].startswith(
        "Scaled by rule, it would be 0.008, which is not among the rates found there."
    )
    assert "linear rule: γ × κ" in missed[2]
    unknown = rate_sentences("lion", pair)
    assert unknown[2].startswith("No rule of scaling is known for lion: the linear rule is for SGD")


def test_no_rate_is_scaled_where_one_is_missing_or_the_size_stays() -> None:
    missing = rate_sentences("adam", ((32, finding(0.002, 0.001, 0.004)), (64, finding(None))))

    assert missing == [
        "Rate of adam with batches of 32: 0.002 (0.001 to 0.004).",
        "No rate for adam was found with batches of 64: No rate moved the loss by more than its noise.",
    ]
    assert len(rate_sentences("adam", ((32, finding(0.002, 0.001, 0.004)),))) == 1
