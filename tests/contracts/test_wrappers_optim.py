"""What wrappers change in a step of the classes of thalweg.optim; sparse and complex gradients."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from cases import deviation, gradients, starts
from thalweg import optim
from thalweg.errors import InputError
from thalweg.optim import RuleOptimizer
from thalweg.rules.sgd import SGD
from thalweg.rules.wrappers import WRAPPERS
from wrapping import FACTORS, NAMES, SHAPES, Listed, applied, in_torch, label, leaves_of


@pytest.mark.parametrize(
    ("listed", "key", "off"),
    [
        ([("decoupled_decay", {"weight_decay": 0.5})], "weight_decay", 0.0),
        ([("l2", {"weight_decay": 0.5})], "weight_decay", 0.0),
        ([("clip_norm", {"limit": 0.1})], "clip_norm_limit", 1e9),
        ([("clip_value", {"limit": 0.1})], "clip_value_limit", 1e9),
        ([("agc", {"clipping": 0.01})], "agc_clipping", 1e9),
        ([("proximal", {"penalty": "l1", "strength": 5.0})], "proximal_strength", 0.0),
    ],
    ids=label,
)
def test_a_group_may_have_a_value_of_its_own(listed: Listed, key: str, off: float) -> None:
    begin, slopes = starts(3, SHAPES), gradients(3, SHAPES, 5, silent=0.0)
    leaves, bare = leaves_of(begin), leaves_of(begin)
    exempt = ["matrix", "vector"]
    groups = [
        {"params": [leaves[n] for n in exempt], key: off},
        {"params": [leaves[n] for n in SHAPES if n not in exempt]},
    ]

    ours, _ = in_torch(optim.SGD(groups, lr=0.1, wrappers=applied(listed)), leaves, slopes, [1.0] * 5)
    plain, _ = in_torch(optim.SGD(list(bare.values()), lr=0.1), bare, slopes, [1.0] * 5)

    # To rounding: kernels fuse the multiplications and additions of another text in another way.
    assert all(np.allclose(ours[-1][n], plain[-1][n], rtol=1e-14, atol=1e-15) for n in exempt)
    assert not any(np.allclose(ours[-1][n], plain[-1][n]) for n in ("column", "filter", "0-d"))


def test_decay_by_the_schedule_leaves_the_rate_out() -> None:
    """θ ← θ − fλθ with f = 1/2, λ = 0.4; a rate of 1000 does not matter without gradient."""
    w = torch.nn.Parameter(torch.tensor([10.0]))
    optimizer = optim.AdamW([w], lr=1000.0, wrappers=[optim.decoupled_decay(0.4, by="schedule")])
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 0.5)
    w.grad = torch.zeros(1)

    optimizer.step()
    scheduler.step()

    assert w.item() == 8.0


def test_the_default_of_a_decay_wrapper_takes_the_place_of_the_methods_own() -> None:
    optimizer = optim.AdamW([torch.zeros(1)], wrappers=[optim.decoupled_decay(0.3)])

    assert optimizer.param_groups[0]["weight_decay"] == 0.3
    assert optim.NAdam is not None
    nadam = [torch.nn.Parameter(torch.ones(1))]
    again = optim.NAdam(nadam, lr=0.1, decoupled_weight_decay=True, wrappers=[optim.decoupled_decay(0.5)])
    nadam[0].grad = torch.zeros(1)
    again.step()
    assert nadam[0].item() == pytest.approx(0.95)  # once, not twice


def test_copied_and_pickled_optimizers_keep_their_wrappers() -> None:
    listed: Listed = [
        ("clip_norm", {"limit": 2.0}), ("skip_nonfinite", {"limit": 4}), ("cautious", {}),
        ("decoupled_decay", {"weight_decay": 0.2, "by": "cautious"}), ("ema", {"memory": 0.7}),
    ]  # fmt: skip
    begin, slopes = starts(3, SHAPES), gradients(3, SHAPES, 20, silent=0.0)
    leaves = leaves_of(begin)
    optimizer = optim.Adam(list(leaves.values()), lr=0.03, wrappers=applied(listed))
    in_torch(optimizer, leaves, slopes[:10], FACTORS[:10])

    for copied in (copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))):
        other, theirs = copied((optimizer, leaves))
        fresh, mine = copied((optimizer, leaves))
        assert repr(other.wrappers) == repr(optimizer.wrappers)
        assert "clip_norm(limit=2.0)" in repr(other.wrappers)
        a, b = (in_torch(o, p, slopes[10:], FACTORS[10:20]) for o, p in ((other, theirs), (fresh, mine)))
        straight = leaves_of(begin)
        whole = in_torch(
            optim.Adam(list(straight.values()), lr=0.03, wrappers=applied(listed)),
            straight,
            slopes,
            FACTORS[:20],
        )
        assert deviation(a[0], whole[0][10:], begin) == deviation(b[1], whole[1][10:], begin) == 0


def test_the_weights_that_are_trained_come_back_after_evaluation() -> None:
    begin, slopes = starts(3, SHAPES), gradients(3, SHAPES, 6, silent=0.0)
    leaves = leaves_of(begin)
    optimizer = optim.SGD(list(leaves.values()), lr=0.1, wrappers=[optim.ema(0.5)])
    path, faces = in_torch(optimizer, leaves, slopes, [1.0] * 6)

    assert np.array_equal(path[-1]["matrix"], leaves["matrix"].detach().numpy())
    assert not np.allclose(path[-1]["matrix"], faces[-1]["matrix"])


def test_the_optimizer_says_whether_a_gradient_was_shortened() -> None:
    w = torch.nn.Parameter(torch.zeros(2))
    for wrapper in (
        optim.clip_norm(1.0),
        optim.clip_value(1.0),
        optim.clip_group_norm(1.0),
        optim.agc(1.0, 1.0),
    ):
        optimizer = optim.SGD([w], lr=0.0, wrappers=[wrapper])
        seen = []
        for slope in (0.5, 3.0):
            w.grad = torch.tensor([slope, 0.0])
            optimizer.step()
            seen.append(optimizer.clipped)
        assert seen == [False, True]


def test_norms_are_taken_over_all_rules_of_an_optimizer() -> None:
    class MatrixSGD(RuleOptimizer, rule=replace(SGD, name="matrix-sgd", title="MatrixSGD", least_axes=2)):
        """SGD for matrices, AdamW for the rest."""

    matrix, vector = torch.nn.Parameter(torch.zeros(1, 1)), torch.nn.Parameter(torch.zeros(1))
    optimizer = MatrixSGD([matrix, vector], lr=1.0, wrappers=[optim.clip_norm(0.5)])
    matrix.grad, vector.grad = torch.tensor([[3.0]]), torch.tensor([4.0])

    optimizer.step()

    assert matrix.item() == pytest.approx(-0.3)


# Sparse and complex gradients.


def test_sparse_gradients_are_clipped_as_dense_ones_are() -> None:
    moved = []
    for sparse in (True, False):
        torch.manual_seed(0)
        layer = torch.nn.Embedding(5, 3, sparse=sparse)
        bias = torch.nn.Parameter(torch.ones(3))
        optimizer = optim.SGD(
            [*layer.parameters(), bias], lr=0.5, wrappers=[optim.clip_norm(0.5), optim.skip_nonfinite()]
        )
        (layer(torch.tensor([1, 3, 3])) * bias).sum().backward()
        optimizer.step()
        moved.append((layer.weight.detach().clone(), bias.detach().clone()))
        assert optimizer.clipped

    assert torch.allclose(moved[0][0], moved[1][0], rtol=0, atol=1e-7)
    assert torch.allclose(moved[0][1], moved[1][1], rtol=0, atol=1e-7)


def test_a_nonfinite_sparse_gradient_is_found() -> None:
    layer = torch.nn.Embedding(5, 3, sparse=True)
    optimizer = optim.Adam(layer.parameters(), wrappers=[optim.skip_nonfinite()])
    before = layer.weight.detach().clone()
    (layer(torch.tensor([1, 3])) * torch.tensor([1.0, float("inf"), 1.0])).sum().backward()

    optimizer.step()

    assert torch.equal(layer.weight, before)
    assert optimizer.skipped_steps == 1


@pytest.mark.parametrize("name", ["ema", "swa", "lookahead", "proximal"])
def test_averages_and_penalties_refuse_sparse_gradients(name: str) -> None:
    layer = torch.nn.Embedding(5, 3, sparse=True)
    optimizer = optim.SGD(layer.parameters(), wrappers=[WRAPPERS[name]()])
    layer(torch.tensor([1, 3])).sum().backward()

    with pytest.raises(InputError, match="be dense"):
        optimizer.step()


@pytest.mark.parametrize("name", NAMES)
def test_complex_parameters_move_as_pairs_of_numbers_or_are_refused(name: str) -> None:
    z = torch.nn.Parameter(torch.tensor([1 + 2j, 3 - 1j]))
    optimizer = optim.SGD([z], lr=0.1, wrappers=[WRAPPERS[name]()])
    z.grad = torch.tensor([3 + 4j, 0j])

    if name in ("agc", "centralise", "cautious", "proximal"):
        with pytest.raises(InputError, match="be real"):
            optimizer.step()
    else:
        optimizer.step()
        assert z[0].imag.item() < 2  # it moved
