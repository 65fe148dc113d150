"""The backend that compiles a step into one graph: the same path as `eager`, compiled once, in place."""

import math
import shutil
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from cases import shapes, structures
from thalweg.backends import compiled, eager
from thalweg.backends.compiled import Call, NotCompiledWarning, trace
from thalweg.backends.eager import NEVER, Advanced
from thalweg.rules.base import Rule
from thalweg.rules.catalogue import RULES
from thalweg.rules.tail import Row
from thalweg.rules.wrap import wrapped
from thalweg.rules.wrappers import WRAPPERS
from wrapping import SINGLE, TOGETHER, Listed
from wrapping import label as listed

UNCOMPILED = ("shampoo", "soap")  # they choose by what they compute what to compute
COMPILED = [name for name in RULES if name not in UNCOMPILED]
KINDS = ("nadam", "lamb", "muon")  # a number in the state, norms, matrices
QUICK = (*KINDS, "sgd", "adam", "schedule-free-adamw", "adafactor", "prodigy")
CLOSE = 1e-12  # of the scale of a path in float64: sums, fused or not, differ by rounding
Advance = Callable[..., Advanced]


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "GRAPHS", compiled.Graphs())
    compiled._say.cache_clear()


class Walk:
    """Parameters and states of a rule that walk over gradients drawn step by step."""

    def __init__(
        self,
        rule: Rule,
        values: dict[str, Any] | None = None,
        shaped: Sequence[tuple[int, ...]] | None = None,
        dtype: torch.dtype = torch.float64,
        state: torch.dtype | None = None,
        replicas: int = 0,
    ) -> None:
        self.rule, self.values, self.replicas = rule, rule.defaults() | (values or {}), replicas
        drawn = torch.Generator().manual_seed(1)
        shaped = list(shapes(rule).values()) if shaped is None else shaped
        lead = (replicas,) if replicas else ()
        self.at = [torch.randn((*lead, *s), generator=drawn, dtype=torch.float64).to(dtype) for s in shaped]
        h = rule.values(self.values)
        self.states = [rule.initial(p.to(state or dtype), h, bool(replicas)) for p in self.at]
        self.shared = {rule.name: rule.initial_shared(h)} if rule.initial_shared else {}
        self.t = 0

    def gradients(self) -> list[Tensor]:
        drawn = torch.Generator().manual_seed(self.t)
        return [torch.randn(p.shape, generator=drawn, dtype=torch.float64).to(p.dtype) + 0.5 for p in self.at]

    def rows(self) -> list[Row]:
        self.t += 1
        h = self.rule.values(self.values)
        t = torch.full((self.replicas,), self.t) if self.replicas else self.t
        slopes = zip(self.at, self.gradients(), self.states, strict=True)
        return [Row(self.rule, p, g, s, t, h, bool(self.replicas), 0.5) for p, g, s in slopes]

    def step(self, advance: Advance, factor: Any = 1.0) -> Advanced:
        done = advance(self.rows(), self.shared, factor)
        self.shared = done.shared
        return done


def with_backend(backend: Any) -> Advance:
    return lambda rows, shared=None, factor=1.0: compiled.advance(
        rows, shared, factor, dynamo_backend=backend
    )


def numbers(walk: Walk) -> list[Tensor]:
    """Return all that a walk has changed."""
    shared = [torch.as_tensor(x) for record in walk.shared.values() for x in record]
    return [*walk.at, *(x for state in walk.states for x in state), *shared]


def assert_close(ours: Walk, theirs: Walk, tolerance: float = CLOSE) -> None:
    for x, y in zip(numbers(ours), numbers(theirs), strict=True):
        scale = max(float(y.abs().max()), 1e-3) if y.numel() else 1.0
        torch.testing.assert_close(x, y, rtol=0, atol=tolerance * scale)


def assert_same_path(make: Callable[[], Walk], advance: Advance, tolerance: float = CLOSE) -> None:
    ours, theirs = make(), make()
    for step in range(5):
        mine, other = ours.step(advance, step / 3), theirs.step(eager.advance, step / 3)
        assert bool(mine.clipped) == bool(other.clipped)
        assert torch.equal(mine.skipped, other.skipped)
        assert_close(ours, theirs, tolerance)


class Counting:
    """A backend that runs a graph as it is, and counts them."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: Sequence[Tensor]) -> Callable[..., Any]:
        self.count += 1
        return graph.forward


# The same path.


def quick(names: Iterable[Any], among: Iterable[Any]) -> list[Any]:
    """Return all that there are, marked as slow unless they are to be quick."""
    return [x if x in names else pytest.param(x, marks=pytest.mark.slow) for x in among]


@pytest.mark.parametrize("place", quick([-1], [-1, 0]), ids=["rich", "plain"])
@pytest.mark.parametrize("name", quick(QUICK, COMPILED))
def test_a_step_of_every_rule_is_the_eager_one_and_traced_once(name: str, place: int) -> None:
    values, graphs = structures(RULES[name])[place], Counting()

    assert_same_path(lambda: Walk(RULES[name], values), with_backend(graphs))
    assert graphs.count == 1


@pytest.mark.parametrize("wrappers", quick(TOGETHER[3:6] + TOGETHER[7:], SINGLE + TOGETHER), ids=listed)
def test_a_step_with_wrappers_is_the_eager_one_and_traced_once(wrappers: Listed) -> None:
    rule = wrapped(RULES["adam"], [WRAPPERS[name](**values) for name, values in wrappers])
    graphs = Counting()

    assert_same_path(lambda: Walk(rule, {"lr": 0.1}, [(3, 4), (5,), ()]), with_backend(graphs))
    assert graphs.count == 1


@pytest.mark.parametrize("name", KINDS)
def test_a_step_without_mutation_inside_is_the_eager_one(name: str) -> None:
    values = structures(RULES[name])[-1]

    assert_same_path(lambda: Walk(RULES[name], values), with_backend("aot_eager"))


def test_replicas_are_moved_each_with_its_own_numbers_and_skipped_each_by_itself() -> None:
    rule = wrapped(RULES["adamw"], [WRAPPERS["skip_nonfinite"](), WRAPPERS["clip_norm"](2.0)])
    values = {
        "lr": torch.tensor([0.1, 0.01, 0.2], dtype=torch.float64),
        "betas": (torch.tensor([0.8, 0.9, 0.0], dtype=torch.float64), 0.99),
        "weight_decay": torch.tensor([0.0, 0.1, 0.0], dtype=torch.float64),
    }
    factor = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)

    class Broken(Walk):
        def gradients(self) -> list[Tensor]:
            slopes = super().gradients()
            slopes[0][1, 0, 0] = math.inf if self.t == 2 else 1.0
            return slopes

    ours, theirs = (Broken(rule, values, [(2, 3), (4,)], replicas=3) for _ in range(2))
    for step in range(1, 4):
        mine = ours.step(with_backend("aot_eager"), factor)
        other = theirs.step(eager.advance, factor)
        assert mine.skipped.tolist() == other.skipped.tolist() == [False, step == 2, False]
        assert mine.clipped.tolist() == other.clipped.tolist()
        assert other.clipped.any()
        assert_close(ours, theirs)


def test_a_step_is_computed_in_the_type_of_the_state_whose_numbers_may_come_without_axes() -> None:
    def make() -> Walk:
        walk = Walk(RULES["nadam"], {"lr": 0.1}, [(3, 4), (5,), ()], torch.bfloat16, torch.float32)
        walk.states = [s._replace(mu_product=s.mu_product.reshape(())) for s in walk.states]
        return walk

    assert_same_path(make, with_backend("aot_eager"), tolerance=0.0)


def test_parameters_of_several_rules_and_types_are_one_graph() -> None:
    graphs = Counting()
    lions = [Walk(RULES["lion"]) for _ in range(2)]
    adams = [Walk(RULES["adam"], {"weight_decay": 0.1}, dtype=torch.float32) for _ in range(2)]
    for _ in range(3):
        with_backend(graphs)([*lions[0].rows(), *adams[0].rows()])
        eager.advance([*lions[1].rows(), *adams[1].rows()])

    assert_close(*lions)
    assert_close(*adams, 1e-6)  # float32
    assert graphs.count == 1


def test_no_rows_are_no_step() -> None:
    assert compiled.advance([]) == Advanced({}, False, NEVER)


# Compiled once.


def test_neither_a_schedule_nor_the_count_of_steps_compiles_anew() -> None:
    graphs = Counting()
    ours, theirs = (Walk(RULES["adamw"]) for _ in range(2))
    for step in range(20):
        changed = {"lr": 0.01 * step, "betas": (0.8 + step / 200, 0.99), "weight_decay": 0.1 + step / 50}
        for walk, advance in ((ours, with_backend(graphs)), (theirs, eager.advance)):
            walk.values |= changed
            walk.step(advance, 1 - step / 20)
        assert_close(ours, theirs)

    assert graphs.count == 1


def test_a_hyperparameter_that_is_zero_is_another_structure() -> None:
    graphs = Counting()
    ours, theirs = (Walk(RULES["adam"]) for _ in range(2))
    for decay in (0.0, 0.1, 0.0, 0.2):
        for walk, advance in ((ours, with_backend(graphs)), (theirs, eager.advance)):
            walk.values["weight_decay"] = decay
            walk.step(advance)
        assert_close(ours, theirs)

    assert graphs.count == 2


def test_a_parameter_that_missed_a_step_has_its_own_count_in_the_same_graph_from_then_on() -> None:
    graphs = Counting()

    def walked(advance: Advance) -> Walk:
        walk, times = Walk(RULES["adam"], {}, [(2,), (3,)]), [0, 0]
        for step in range(6):
            rows = walk.rows()
            moving = [1] if step == 2 else [0, 1]
            for place in moving:
                times[place] += 1
            advance([rows[place]._replace(t=times[place]) for place in moving])
        return walk

    assert_close(walked(with_backend(graphs)), walked(eager.advance))
    assert graphs.count == 3  # together, one alone, and together with counts of their own


def test_what_changes_may_be_tensors_and_the_other_numbers_stay_on_the_device() -> None:
    ours, theirs = (Walk(RULES["adamw"], {"lr": 0.1}) for _ in range(2))
    t, rate = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    calls, graphs = [], Counting()
    for step in range(1, 5):
        t += 1
        rate.fill_(0.1 / step)
        h = RULES["adamw"].values(ours.values)._replace(lr=rate)
        rows = [row._replace(t=t, values=h) for row in ours.rows()]
        calls.append(Call(rows, {}, 1.0))
        compiled.advance(rows, dynamo_backend=graphs)
        theirs.values["lr"] = 0.1 / step
        theirs.step(eager.advance)
        assert_close(ours, theirs)

    assert graphs.count == 1
    assert all(call.numbers == calls[0].numbers for call in calls)


@pytest.mark.parametrize("name", quick(KINDS, COMPILED))
def test_nothing_in_a_graph_leaves_the_device(name: str) -> None:
    # The meta device stands for one that is not the host's.
    rule = wrapped(RULES[name], [WRAPPERS["skip_nonfinite"](), WRAPPERS["clip_norm"]()])
    h = rule.values(rule.defaults())
    shared = {rule.name: rule.initial_shared(h)} if rule.initial_shared else {}
    h = h._replace(lr=torch.ones((), dtype=torch.float64, device="meta"))
    t = torch.ones((), device="meta")
    at = [torch.ones(4, 4, device="meta"), torch.ones(3, 2, 2, device="meta")]
    call = Call([Row(rule, p, p + 1, rule.initial(p, h), t, h) for p in at], shared, 1.0)
    graph, clips, skips = trace(call)

    assert clips
    assert skips
    assert not [node for node in graph.graph.nodes if node.op == "get_attr"]  # constants of the host
    made = [node.meta["val"] for node in graph.graph.nodes if isinstance(node.meta.get("val"), Tensor)]
    assert len(made) > len(call.tensors)
    assert {x.device.type for x in made} == {"meta"}


# In place.


def test_parameters_and_states_keep_their_memory_and_autograd_is_told() -> None:
    p, rule = torch.nn.Parameter(torch.ones(3)), RULES["adam"]
    h = rule.values(rule.checked({"lr": 0.5, "eps": 0.0}))
    state = rule.initial(p.detach(), h)
    before = [x.data_ptr() for x in (p, *state)]
    loss = (p * p).sum()
    compiled.advance([Row(rule, p, torch.ones(3), state, 1, h)], dynamo_backend="aot_eager")

    assert p.tolist() == [0.5, 0.5, 0.5]  # Adam's first step is the rate
    assert [x.data_ptr() for x in (p, *state)] == before
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_parameter_with_other_memory_is_followed() -> None:
    graphs = Counting()
    ours, theirs = (Walk(RULES["adam"], {}, [(2, 3)]) for _ in range(2))
    old = ours.at[0]
    for step in range(4):
        if step == 1:
            ours.at[0], left = old.clone(), old.clone()
        if step == 2:
            ours.at[0] = ours.at[0].t().contiguous().t()
        ours.step(with_backend(graphs))
        theirs.step(eager.advance)
        assert_close(ours, theirs)

    assert torch.equal(old, left)
    assert graphs.count == 2  # other strides are another structure


def test_views_of_one_buffer_are_moved_each_for_itself() -> None:
    def make() -> Walk:
        walk = Walk(RULES["adam"], {}, [(2, 3), (4,)])
        flat = torch.cat([p.flatten() for p in walk.at])
        walk.at = [flat[:6].view(2, 3), flat[6:]]
        return walk

    assert_same_path(make, with_backend("aot_eager"))


# Not compiled.


def assert_falls_back(make: Callable[[], Walk], advance: Advance, match: str) -> None:
    """Assert that one sentence is said, once, and that the path is the eager one."""
    ours, theirs = make(), make()
    with pytest.warns(NotCompiledWarning, match=match):
        ours.step(advance)
    ours.step(advance)  # warnings are errors
    theirs.step(eager.advance)
    theirs.step(eager.advance)
    assert_close(ours, theirs, 0.0)


@pytest.mark.parametrize("name", UNCOMPILED)
def test_a_rule_that_chooses_by_what_it_computes_runs_eagerly(name: str) -> None:
    match = f"A step of {RULES[name].title} must fit .* a choice that depends on what it computes. It runs"

    assert_falls_back(lambda: Walk(RULES[name]), with_backend("eager"), match)


def test_a_compiler_that_does_not_work_is_asked_once_and_not_missed() -> None:
    asked = []

    def broken(graph: Any, inputs: Any) -> Any:
        asked.append(graph)
        raise OSError("there is no compiler\nhere")

    assert_falls_back(
        lambda: Walk(RULES["adam"]), with_backend(broken), "got OSError: there is no compiler. It"
    )
    assert len(asked) == 1


def test_sparse_gradients_run_eagerly() -> None:
    class Sparse(Walk):
        def gradients(self) -> list[Tensor]:
            found = [(torch.tensor([[0, 2]]), g[:2], g.shape) for g in super().gradients()]
            return [torch.sparse_coo_tensor(*each, check_invariants=True).coalesce() for each in found]

    assert_falls_back(
        lambda: Sparse(RULES["sgd"], {}, [(4, 2)]), with_backend("eager"), "got sparse gradients"
    )


def test_parameters_on_several_devices_run_eagerly() -> None:
    at = [torch.ones(2), torch.ones(3, device="meta")]
    rule = RULES["sgd"]
    h = rule.values(rule.checked({"lr": 0.25}))
    with pytest.warns(NotCompiledWarning, match="parameters on several devices"):
        compiled.advance([Row(rule, p, torch.ones_like(p), rule.initial(p, h), 1, h) for p in at])

    assert at[0].tolist() == [0.75, 0.75]


def test_structures_that_change_at_every_step_are_not_compiled_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiled, "NEW_IN_A_ROW", 3)
    graphs = Counting()
    walks = [Walk(RULES["sgd"], {}, [(size,)]) for size in range(1, 5)]
    for walk in walks[:3]:
        walk.step(with_backend(graphs))
    with pytest.warns(NotCompiledWarning, match="another structure in each of 3 steps"):
        walks[3].step(with_backend(graphs))
    assert graphs.count == 3
    walks[0].step(with_backend(graphs))  # a known one
    walks[3].step(with_backend(graphs))

    assert graphs.count == 4
    for walk in walks:
        same = Walk(RULES["sgd"], {}, [walk.at[0].shape])
        for _ in range(walk.t):
            same.step(eager.advance)
        assert_close(walk, same)


# Known graphs, and threads.


def test_the_graph_not_used_for_longest_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "MOST", 2)
    graphs = Counting()
    walks = [Walk(RULES["sgd"], {}, [(size,)]) for size in (1, 2, 3)]
    for place in (0, 1, 0, 2, 0, 1):  # the second goes when the third comes
        walks[place].step(with_backend(graphs))

    assert graphs.count == 4


def test_threads_share_what_is_compiled() -> None:
    graphs, ready, done = Counting(), threading.Barrier(6), []
    walks = [Walk(RULES["adam"], {"lr": 0.01 * (n + 1)}, [(2 + n % 2,)]) for n in range(6)]

    def run(walk: Walk) -> None:
        ready.wait()
        for _ in range(20):
            walk.step(with_backend(graphs))
        done.append(walk)

    threads = [threading.Thread(target=run, args=(walk,)) for walk in walks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(done) == 6
    assert graphs.count == 2  # one a shape
    for walk in walks:
        alone = Walk(RULES["adam"], walk.values, [walk.at[0].shape])
        for _ in range(20):
            alone.step(eager.advance)
        assert_close(walk, alone)


# The real compiler, on the host's processor.


@pytest.fixture
def _inductor(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Iterator[None]:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # PyTorch's own
        yield


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++ to compile what inductor writes")
@pytest.mark.usefixtures("_inductor")
def test_all_rules_in_one_graph_are_compiled_by_inductor() -> None:
    def move(walks: list[Walk], advance: Advance, factor: float) -> None:
        shared = {name: record for walk in walks for name, record in walk.shared.items()}
        done = advance([row for walk in walks for row in walk.rows()], shared, factor)
        for walk in walks:
            walk.shared = {name: done.shared[name] for name in walk.shared}

    def make() -> list[Walk]:
        shaped = {name: [(3, 4), (2, 1, 2, 2) if RULES[name].least_axes else ()] for name in COMPILED}
        return [Walk(RULES[name], structures(RULES[name])[-1], shaped[name]) for name in COMPILED]

    ours, theirs = make(), make()
    for step in range(5):
        move(ours, compiled.advance, step / 3)
        move(theirs, eager.advance, step / 3)
        for mine, other in zip(ours, theirs, strict=True):
            assert_close(mine, other)


@pytest.mark.slow
@pytest.mark.usefixtures("_inductor")
def test_without_a_compiler_a_step_runs_eagerly() -> None:
    from torch._inductor import config

    with config.patch({"cpp.cxx": ("/nowhere/g++",)}):
        assert_falls_back(lambda: Walk(RULES["adam"]), compiled.advance, "InvalidCxxCompiler: No working C")
