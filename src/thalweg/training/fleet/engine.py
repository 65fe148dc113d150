"""The engine with many rows: replicas of one task as one program.

Weights are stacked along a leading axis, gradients of all replicas are computed by one call, and each rule
moves the replicas that are its own. Control, order of the data, initial weights and budgets are those of the
engine with one row.
"""

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from thalweg import optim, seeds
from thalweg.rules.base import Curvature
from thalweg.tasks.data.part import Part, TensorPart, moved
from thalweg.training.engine import Size, Snapshot, Updated, Updates, micro_batch, normalised, under
from thalweg.training.fleet import curvature
from thalweg.training.fleet.batches import Batches
from thalweg.training.fleet.measuring import AT_ONCE, Measurement, measured_together
from thalweg.training.fleet.numbers import columns, put
from thalweg.training.fleet.program import Bound, Gradients, Leaves, put_back, told
from thalweg.training.fleet.squad import Squad, likeness
from thalweg.training.fleet.stack import Stack
from thalweg.training.measuring import Measured, measured, recompute_statistics
from thalweg.training.trial import Trial, Workload

KEPT: Final = 7 / 8  # of the replicas in a stack: when fewer are left, those that have gone are cut out of it


class FleetEngine:
    """Replicas of one task, trained together.

    Args:
        workload: the task with its data.
        trials: what to train; all with one batch size, micro batch, precision and sampling.
        root: the seed from which all streams derive.
        device: where the stack lives.
        threads: of the kernels.
        snapshots: where to go on from, one a trial, all after equally many updates; None: fresh weights.

    Raises:
        Unstackable: the model cannot be stacked.
        InputError: accumulation is asked for where BatchNorm makes it untrue.
    """

    def __init__(
        self,
        workload: Workload,
        trials: Sequence[Trial],
        root: int,
        device: torch.device | str = "cpu",
        threads: int = 1,
        snapshots: Sequence[Snapshot] | None = None,
    ) -> None:
        recipe = trials[0].recipe
        self.task, self.trials, self.root, self.threads = workload.task, list(trials), root, threads
        self.device = torch.device(device)
        self.dtype = torch.float64 if recipe.precision == "float64" else None
        # Replicas of one seed lie side by side: they see the same batches.
        self.rows = sorted(range(len(trials)), key=lambda row: trials[row].seed)  # by place in the stack
        self.place = {row: place for place, row in enumerate(self.rows)}
        self._batch_size = workload.batch_size(recipe)
        first = workload.data.train.batch(np.arange(min(2, workload.data.train.examples)))
        self._seeds = [trials[row].seed for row in self.rows]
        first = moved(first, self.dtype, self.device)
        self.stack = Stack(self.task, self._model, self._seeds, first)
        self._normalised = normalised(self.stack.shell)
        micro = micro_batch(recipe, self._batch_size, self._normalised)
        self.batches = Batches(workload, trials, root, self.dtype, self.device, micro)
        self.squads = self._squads()
        # What was traced for one fleet serves the next one of the same nature.
        made: tuple[Bound, dict[Any, Gradients], dict[Any, Measurement]] = workload.programs.setdefault(
            (self.dtype, self.device, *self.stack.nature()), (Bound(self.task, self.stack.shell), {}, {})
        )
        self.bound, self._gradients, self._measurements = made
        put_back(self.bound.model, told(self.stack.shell))  # a module may count its calls
        self.kept: dict[int, dict[str, Tensor]] = {}
        self._ordinary: nn.Module | None = None
        self._together = True
        self._final: set[int] = set()
        self._gone: set[int] = set()
        if snapshots is not None:
            for row, snapshot in enumerate(snapshots):
                self._restore(row, snapshot)

    def _model(self, seed: int) -> nn.Module:
        model = self.task.model(seeds.derive(self.root, "initial weights", seed))
        return model.to(device=self.device, dtype=self.dtype).train()

    def _optimizer(self, trial: Trial) -> optim.RuleOptimizer:
        """Return an optimizer that tells rules and values, and moves nothing."""
        recipe = trial.recipe
        return optim.BY_RULE[recipe.preset.rule.name](
            self.stack.shell, wrappers=recipe.applied(), **recipe.given()
        )

    def _squads(self) -> list[Squad]:
        made: dict[int, optim.RuleOptimizer] = {}
        alike: dict[Any, list[int]] = {}
        optimizers: list[optim.RuleOptimizer] = []
        for row in self.rows:
            trial = self.trials[row]
            known = next((o for r, o in made.items() if self.trials[r].recipe == trial.recipe), None)
            made[row] = optimizer = known or self._optimizer(trial)
            alike.setdefault(likeness(optimizer), []).append(len(optimizers))
            optimizers.append(optimizer)
        names = {id(p): name for name, p in self.stack.shell.named_parameters()}
        return [
            Squad([optimizers[p] for p in places], names, np.array(places), self.stack.weights)
            for places in alike.values()
        ]

    # Updates.

    def update(self, updates: Sequence[Updates]) -> Sequence[Updated]:
        """Do a stretch of updates of each of these rows."""
        self._compact()
        first, count = updates[0].step, len(updates[0].rates)
        factors = np.ones((count, len(self.rows)))
        for row, _, rates in updates:
            factors[:, self.place[row]] = np.divide(rates, self.trials[row].recipe.rate or 1.0)
        done = [self._updated(first + i, factors[i]) for i in range(count)]
        losses = torch.stack([loss for loss, _, _ in done]).T.tolist()
        clipped, skipped = (columns([x[place] for x in done]) for place in (1, 2))
        places = [self.place[row] for row, _, _ in updates]
        return [
            Updated(losses[p], () if clipped is None else clipped[p], () if skipped is None else skipped[p])
            for p in places
        ]

    def _updated(self, step: int, factors: np.ndarray) -> tuple[Tensor, Any, Any]:
        with self.task.user_code("training"):
            for squad in self.squads:
                if squad.rule.curvature is not None and step % squad.every == 0:
                    self._refresh(squad, step)
            losses, gradients = self._gradient(step)
        clipped = skipped = None
        for squad in self.squads:
            own = squad.rule.offset is not None
            slopes = gradients
            if own:
                slopes = self._second(squad, gradients, step)
            shortened, missed = squad.step(
                self.stack.weights, slopes, factors[squad.where], self.threads, own=own
            )
            clipped = put(clipped, squad.where, shortened, len(self.rows))
            skipped = put(skipped, squad.where, missed, len(self.rows))
            if squad.limit is not None and (lost := squad.skipped_in_a_row >= squad.limit).any():
                losses = losses.clone()
                losses[torch.from_numpy(squad.where[lost])] = torch.nan  # as divergence
        return losses, clipped, skipped

    def _gradient(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Return losses and gradients of all replicas for the batches of a step."""
        return self._accumulated(step, self.stack.weights, self.stack.buffers, self._seeds)

    def _accumulated(
        self,
        step: int,
        weights: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        shown: Sequence[int],
        compute: Any = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return losses and gradients for the batches of a step; parts of them add up to the whole.

        Args:
            step: which update.
            weights: stacks by name.
            buffers: likewise.
            shown: the seed of each replica of the stacks.
            compute: what to compute instead.
        """
        compute = compute or self._computed
        pieces = self.batches.pieces(step, shown, self.draws)
        if len(pieces) == 1:
            return compute(weights, buffers, pieces[0][1])  # type: ignore[no-any-return]
        total: Any = 0.0
        weight: Any = 0.0
        summed: dict[str, Tensor] = {}
        for own, batches in pieces:
            losses, gradients = compute(weights, buffers, batches)
            own = own.to(losses)
            total, weight = total + losses * own, weight + own
            for name, g in gradients.items():
                part = g * own.view(-1, *(1,) * (g.ndim - 1))
                summed[name] = summed[name].add_(part) if name in summed else part
        for g in summed.values():
            g.div_(weight.view(-1, *(1,) * (g.ndim - 1)))
        return total / weight, summed

    @property
    def draws(self) -> bool:
        """Whether calls of the model may draw random numbers, as far as is known."""
        return not self._gradients or any(gradients.draws for gradients in self._gradients.values())

    def _computed(
        self,
        weights: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        batches: Leaves,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        key = (repr(batches.spec), self.threads, *((x.shape[1:], x.dtype) for x in batches.tensors))
        if key not in self._gradients:
            made = Gradients(self.bound, list(weights), list(buffers), batches.spec, self.threads)
            self._gradients[key] = made
        if not self.bound.model.training:
            self.bound.model.train()
        return self._gradients[key](weights, buffers, batches.tensors, batches.which)

    # Second gradients and curvature.

    def _shown_to(self, squad: Squad) -> list[int]:
        return [self._seeds[place] for place in squad.where.tolist()]

    def _second(self, squad: Squad, gradients: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        """Return the gradients of a squad where SAM looks; buffers see the first pass only."""
        weights = {n: squad.mine(x) for n, x in self.stack.weights.items()}
        slopes = {n: squad.mine(g) for n, g in gradients.items()}
        moves = squad.offsets(weights, slopes)
        there = {n: x + moves[n] if n in moves else x.clone() for n, x in weights.items()}
        buffers = {n: squad.mine(x).clone() for n, x in self.stack.buffers.items()}
        with self.task.user_code("training"):
            return self._accumulated(step, there, buffers, self._shown_to(squad))[1]

    def _refresh(self, squad: Squad, step: int) -> None:
        """Have a squad take in the diagonal of the Hessian on the batches of a step."""
        weights = {n: squad.mine(x) for n, x in self.stack.weights.items()}
        buffers = {n: squad.mine(x).clone() for n, x in self.stack.buffers.items()}
        shown = self._shown_to(squad)
        self.bound.model.train()
        generators = [
            torch.Generator(self.device).manual_seed(self.batches.stream(seed, step, 2)) for seed in shown
        ]
        if squad.rule.curvature is Curvature.HUTCHINSON:
            along = curvature.signs(weights, generators)
            products = partial(curvature.products, self.bound, along)
            _, found = self._accumulated(step, weights, buffers, shown, products)
            diagonal = {n: u * found[n] if n in found else torch.zeros_like(u) for n, u in along.items()}
        else:
            pieces = [piece for _, piece in self.batches.pieces(step, shown, self.draws)]
            diagonal = curvature.sampled(self.bound, weights, buffers, pieces, generators)
        squad.refresh(weights, diagonal)

    # Measuring.

    @torch.no_grad()
    def measure(self, rows: Sequence[int], part: Part) -> Sequence[Measured]:
        """Measure these rows, in evaluation mode: exact means over the whole part."""
        if isinstance(part, TensorPart):
            return self._measured(rows, part)
        found: dict[int, Measured] = {}  # a person's data set may draw random numbers: each seed its own
        for seed in dict.fromkeys(self.trials[row].seed for row in rows):
            own = [row for row in rows if self.trials[row].seed == seed]
            found.update(zip(own, self._measured(own, part), strict=True))
        return [found[row] for row in rows]

    def _measured(self, rows: Sequence[int], part: Part) -> Sequence[Measured]:
        stacks = self._shown(rows)
        self.batches.seed_forward(self.trials[rows[0]].seed, 0, 1)
        self.bound.model.eval()
        at_once = AT_ONCE * len(self.rows) * self.batches.micro_batch
        # What a module counts while it trains is no part of what is measured later: it is traced anew.
        known = self._measurements if all(g.pure for g in self._gradients.values()) else {}
        with self.task.user_code("measuring"):
            if self._together:
                try:
                    return measured_together(
                        self.bound, known, stacks, part, self.batches.moved, at_once, self.threads
                    )
                except Exception:  # metrics may do what vmap cannot; what is wrong alone too is said below
                    self._together = False
            found = []
            for place, row in enumerate(rows):
                self.batches.seed_forward(self.trials[row].seed, 0, 1)
                model = self._lone({n: x[place] for n, x in stacks.items()}).eval()
                found.append(measured(self.task, model, part, self.batches.moved))
            return found

    def _shown(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Return weights and buffers to evaluate with, stacked."""
        places = np.array([self.place[row] for row in rows])
        if len(places) == len(self.rows) and (places == np.arange(len(places))).all():
            stacks = {**self.stack.weights, **self.stack.buffers}
        else:
            chosen = torch.from_numpy(places).to(self.device)
            stacks = {n: x[chosen] for n, x in (*self.stack.weights.items(), *self.stack.buffers.items())}
        faced = [squad for squad in self.squads if squad.two_faced]
        if not faced:
            return stacks
        stacks = {n: x.clone() for n, x in stacks.items()}
        for squad in faced:
            shown = squad.evaluated({n: squad.mine(x) for n, x in self.stack.weights.items()})
            for own, place in enumerate(squad.where.tolist()):
                row = self.rows[place]
                if row in rows and row not in self._final:
                    for name, x in shown.items():
                        stacks[name][rows.index(row)] = x[own]
                    if self._normalised:
                        self._recompute_statistics(stacks, rows.index(row), self.trials[row].seed)
        return stacks

    def _recompute_statistics(self, stacks: dict[str, Tensor], place: int, seed: int) -> None:
        """Give BatchNorm of one replica the statistics of its weights."""
        model = self._lone({n: x[place] for n, x in stacks.items()}).train()
        self.batches.seed_forward(seed, 0, 3)
        recompute_statistics(self.task, model, self.batches.train, self._batch_size, self.batches.moved)
        for name, x in model.named_buffers():
            if name in self.stack.buffers:
                stacks[name][place] = x

    def _lone(self, tensors: Mapping[str, Tensor]) -> nn.Module:
        """Return an ordinary model with the weights and buffers of one replica."""
        if self._ordinary is None:
            self._ordinary = copy.deepcopy(self.stack.shell)
        named = dict((*self._ordinary.named_parameters(), *self._ordinary.named_buffers()))
        for name, x in tensors.items():
            named[name].data.copy_(x)
        return self._ordinary

    # What stays.

    @torch.no_grad()
    def keep(self, row: int) -> None:
        """Keep the weights of a row as the best so far."""
        self.kept[row] = {n: x[0].clone() for n, x in self._shown([row]).items()}

    @torch.no_grad()
    def finish(self, row: int) -> None:
        """Put the weights that count in place for good: the kept ones, else those to evaluate with."""
        shown = self.kept.get(row) or {n: x[0] for n, x in self._shown([row]).items()}
        for name, x in self.stack.at(self.place[row]).items():
            x.copy_(shown[name])
        self._final.add(row)

    def drop(self, rows: Sequence[int]) -> None:
        """Note that nobody will ask for these rows again: when there are enough of them, they leave."""
        self._gone.update(rows)

    def _compact(self) -> None:
        left = [place for place, row in enumerate(self.rows) if row not in self._gone]
        if len(left) > KEPT * len(self.rows):
            return
        self.stack.select(torch.tensor(left, device=self.device))
        to = {place: new for new, place in enumerate(left)}
        for squad in self.squads:
            kept = np.array([i for i, place in enumerate(squad.where.tolist()) if place in to], np.int64)
            squad.drop(kept, np.array([to[place] for place in squad.where[kept].tolist()], np.int64))
        self.squads = [squad for squad in self.squads if squad.size]
        self.rows = [self.rows[place] for place in left]
        self.place = {row: place for place, row in enumerate(self.rows)}
        self._seeds = [self._seeds[place] for place in left]

    @property
    def resident(self) -> int:
        """The bytes of all stacks, states and gradients."""
        stacks = [*self.stack.weights.values(), *self.stack.buffers.values()]
        states = [x for squad in self.squads for state in squad.states.values() for x in state]
        kept = sum(made.resident(len(self.rows)) for made in self._gradients.values())
        return int(kept + sum(x.nbytes for x in (*stacks, *states)))

    def size(self, row: int) -> Size:
        """Return how large a row's model is, and how much its optimizer remembers."""
        squad, own = self._in_squad(row)
        return Size(sum(x[0].numel() for x in self.stack.weights.values()), squad.state_bytes(own))

    def _in_squad(self, row: int) -> tuple[Squad, int]:
        place = self.place[row]
        for squad in self.squads:
            (found,) = np.nonzero(squad.where == place)
            if len(found):
                return squad, int(found[0])
        raise LookupError(row)

    def snapshot(self, row: int) -> Snapshot:
        """Return copies of weights, buffers, optimizer state and kept weights, named as by `ModelEngine`."""
        squad, own = self._in_squad(row)
        model = self._lone(self.stack.at(self.place[row]))
        named = [(f"model.{name}", t.clone()) for name, t in model.state_dict().items()]
        if row in self.kept:  # in the same model, which is overwritten
            named += [(f"kept.{name}", t) for name, t in self._lone(self.kept[row]).state_dict().items()]
        named += [(f"optimizer.{name}", t) for name, t in squad.state_of(own)]
        named += [(f"scalar.{name}", t) for name, t in squad.scalars_of(own)]
        return {name: t.detach().clone().contiguous() for name, t in named}

    def _restore(self, row: int, snapshot: Snapshot) -> None:
        squad, own = self._in_squad(row)
        at = self.stack.at(self.place[row])
        for name, x in under("model.", snapshot):
            if name in at:
                at[name].copy_(x)
        kept = dict(under("kept.", snapshot))
        if kept:
            self.kept[row] = {n: kept[n].to(self.device) for n in at if n in kept}
        squad.restore(own, dict(under("optimizer.", snapshot)), dict(under("scalar.", snapshot)))
