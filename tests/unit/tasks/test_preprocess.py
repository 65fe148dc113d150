"""Preprocessing: fitted on training data, never a division by zero."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from thalweg.errors import TaskError
from thalweg.tasks import PCA, ConstantFeatureWarning, MinMax, Standardise, balanced_class_weights

RNG = np.random.default_rng(0)
TRAIN = RNG.standard_normal((40, 3)) * [1e-3, 1.0, 1e4] + [5.0, 0.0, -1e4]
TABLES = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 8), st.integers(1, 4)), elements=st.floats(-1e6, 1e6, width=32)
)


def test_standardised_training_data_have_mean_0_and_variance_1() -> None:
    z = Standardise.fit(TRAIN)(TRAIN)

    # the mean 5 of a feature with deviation 1e-3 loses log10(5000) of 16 digits
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-11)
    np.testing.assert_allclose(z.var(axis=0), 1, rtol=1e-11)


def test_other_parts_are_scaled_with_the_numbers_of_the_training_part() -> None:
    scale = Standardise.fit([[0.0], [2.0]])

    assert scale([[5.0], [7.0]]).tolist() == [[4.0], [6.0]]


def test_min_max_is_per_feature() -> None:
    z = MinMax.fit(TRAIN)(TRAIN)

    assert z.min(axis=0).tolist() == [0.0, 0.0, 0.0]
    assert z.max(axis=0).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.filterwarnings("ignore::thalweg.tasks.data.preprocess.ConstantFeatureWarning")
@pytest.mark.parametrize("step", [Standardise, MinMax])
@given(TABLES)
def test_no_table_of_finite_numbers_becomes_nan(
    step: type[Standardise] | type[MinMax], x: np.ndarray[tuple[int, int], np.dtype[np.float64]]
) -> None:
    assert np.isfinite(step.fit(x)(x)).all()


@pytest.mark.parametrize("step", [Standardise, MinMax])
def test_a_constant_feature_warns_and_becomes_0(step: type[Standardise] | type[MinMax]) -> None:
    x = np.array([[0.1, 1.0]] * 9 + [[0.1, 2.0]])  # nine times 0.1 has a deviation of 1e-17, not 0
    with pytest.warns(ConstantFeatureWarning, match=r"1 of 2 features .* \(column 0\); they become 0"):
        fitted = step.fit(x)

    np.testing.assert_allclose(fitted(x)[:, 0], 0, atol=1e-15)


@pytest.mark.parametrize("step", [Standardise, MinMax])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([[1.0, np.nan]], "finite numbers; got nan in row 0, column 1"),
        ([1.0, 2.0], r"shape \(2,\)"),
        (np.empty((0, 3)), r"shape \(0, 3\)"),
    ],
)
def test_what_is_no_table_of_finite_numbers_is_refused(
    step: type[Standardise] | type[MinMax], x: object, message: str
) -> None:
    with pytest.raises(TaskError, match=message):
        step.fit(x)  # type: ignore[arg-type]


def test_principal_components_are_uncorrelated_and_ordered_by_variance() -> None:
    x = Standardise.fit(TRAIN)(TRAIN) @ RNG.standard_normal((3, 3))
    turn = PCA.fit(x, components=3)
    covariance = np.cov(turn(x).T)

    eigenvalues = np.linalg.eigvalsh(np.cov(x.T))[::-1]
    np.testing.assert_allclose(covariance, np.diag(eigenvalues), atol=1e-12 * eigenvalues[0])
    np.testing.assert_allclose(turn.explained, eigenvalues / eigenvalues.sum(), rtol=1e-12)


@pytest.mark.parametrize("components", [0, 4])
def test_more_components_than_features_are_refused(components: int) -> None:
    with pytest.raises(TaskError, match=r"whole number in \[1, 3\].* got " + str(components)):
        PCA.fit(TRAIN, components)


def test_principal_components_of_equal_rows_are_refused() -> None:
    with pytest.raises(TaskError, match="examples that differ"):
        PCA.fit(np.ones((4, 2)), components=1)


def test_balanced_weights_give_every_class_the_same_sum() -> None:
    labels = np.array([0] * 90 + [1] * 9 + [2])
    weights = balanced_class_weights(labels, classes=3)

    sums = [weights[labels][labels == k].sum() for k in range(3)]
    np.testing.assert_allclose(sums, [100 / 3] * 3)


@pytest.mark.parametrize("labels", [[0, 0, 2], [0, 1, 2, 3]])
def test_balancing_refuses_classes_without_examples_and_unknown_ones(labels: list[int]) -> None:
    with pytest.raises(TaskError, match="contain each class from 0 to 2; got counts"):
        balanced_class_weights(labels, classes=3)
