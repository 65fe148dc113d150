"""What a comparison of batch sizes and orders leaves: batch, stochastic and mini-batch gradient descent."""

from dataclasses import dataclass

from thalweg.records.races import Verdict

ALL, SHUFFLED, IN_ORDER, WITH_REPLACEMENT = "all", "shuffled", "in order", "with replacement"
SAMPLINGS = (SHUFFLED, IN_ORDER, WITH_REPLACEMENT)

Losses = tuple[float | None, ...]  # of each seed; None: diverged
Ends = tuple[float, float]


@dataclass(frozen=True)
class TriedRate:
    """One rate of the grid, and how it did."""

    rate: float
    loss: float | None  # mean validation loss over the tuning seeds; None: one of them diverged


@dataclass(frozen=True)
class Moment:
    """Losses of all final seeds at one moment of their trainings."""

    updates: int
    epochs: float
    train: Losses
    validation: Losses


@dataclass(frozen=True)
class SamplingRow:
    """One batch size with one way to draw the examples."""

    name: str  # "full batch", "batch 32", "batch 32, in order"
    batch_size: int
    sampling: str
    updates_per_epoch: int  # ⌈N/B⌉
    counted: int  # batches that an epoch was seen to have
    steps: int  # updates of each training
    epochs: float
    cut: bool  # trained for fewer epochs than asked for, because of the budget of updates
    rate: float | None  # None: every rate that was tried diverged
    edge: str | None  # "lowest" or "highest": the rate lies at that end of the grid
    tried: tuple[TriedRate, ...]  # empty: the rate was given
    update_seconds: float  # of a model alone
    memory_bytes: float  # that an update takes beside the data: weights, state, activations, gradients
    coverage: float  # share of the examples that an epoch shows, as counted
    coverage_expected: float
    moments: tuple[Moment, ...]  # the first before the first update, the last at the end
    equal_epochs: Moment | None  # where all are compared; of one that was cut, where it ends
    equal_updates: Moment | None  # where the one with the fewest updates ends
    equal_seconds: Moment | None  # where the quickest ends: depends on the clock
    train_loss: float | None  # means there; None: a seed diverged
    train_interval: Ends | None  # 95 %
    validation_loss: float | None
    validation_interval: Ends | None


@dataclass(frozen=True)
class GradientVariance:
    """E‖g_B − G‖² of the mean gradient of a batch, as measured and as the law says."""

    moment: str  # "start" or "end"
    sampling: str  # "without replacement" or "with replacement"
    batch_size: int
    draws: int  # batches that the mean is over
    measured: float
    expected: float


@dataclass(frozen=True)
class VarianceSlope:
    """How the measured variance with replacement depends on B: it goes as B to this power; the law: −1."""

    moment: str
    slope: float
    covariance_trace: float  # tr Σ, of the gradient of one example
    examples: int  # that it was measured on


@dataclass(frozen=True)
class WeightPath:
    """The way of the weights of one training, on a plane that all paths share."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    length: float  # Σ‖w_{t+1} − w_t‖ over every update
    distance: float  # ‖w_T − w_0‖
    explained: float  # share of this path's variance that lies in the plane

    @property
    def ratio(self) -> float:
        """Length ÷ distance: 1 is straight."""
        return self.length / self.distance if self.distance > 0 else 1.0


@dataclass(frozen=True)
class SamplingComparison:
    """Batch sizes and ways to draw the examples, compared on one task."""

    task: str
    optimizer: str
    examples: int  # N, of the training part
    measured_examples: int  # of them, on which the training loss is measured
    validation_examples: int
    parameters: int
    mini_batch: int  # with which the samplings are compared
    epochs: float  # that were asked for
    most_updates: int  # the budget of one training
    seed: int
    tuning_seeds: int
    final_seeds: int
    grid: tuple[float, ...]  # of rates, the same for every row; empty: rates were given
    compared_epochs: float  # where rows are compared, as nearly as whole updates come to it
    rows: tuple[SamplingRow, ...]  # batch sizes, largest first; then the other samplings of the mini-batch
    sizes: Verdict | None  # None: there was nothing to compare
    samplings: Verdict | None
    slopes: tuple[VarianceSlope, ...]
    variances: tuple[GradientVariance, ...]
    paths: tuple[WeightPath, ...]
    explained: float  # share of the variance of all paths that lies in the plane
    left_out: tuple[str, ...]  # sentences: what could not be compared or measured, and why
    executor: str
    threads: int
    command: str = ""
    total_seconds: float = 0.0

    def row(self, name: str) -> SamplingRow:
        """Return the row of a name."""
        return next(row for row in self.rows if row.name == name)
