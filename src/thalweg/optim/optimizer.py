"""A rule, with or without wrappers, as a `torch.optim.Optimizer`."""

import inspect
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from thalweg.backends.eager import NEVER
from thalweg.errors import InputError, NonFiniteGradients, ThalwegError
from thalweg.hyper import AT_LEAST_0, Real
from thalweg.optim import arguments, curvature, faces, planned, routing, scalars, sharpness, states
from thalweg.optim.execution import EXECUTION_FLAGS, Execution, add_param_group, zero_grad
from thalweg.optim.rows import complete, plain
from thalweg.rules.base import Curvature, Rule
from thalweg.rules.wrap import Applied, wrapped

FACTOR = Real(1.0, "what the rate of a group is multiplied by", AT_LEAST_0)


def _no_model() -> None:
    """Stand for the reference to the model of an optimizer that was made of parameters."""


class RuleOptimizer(torch.optim.Optimizer):
    """A rule as a `torch.optim.Optimizer`; use one of its subclasses.

    Args:
        params: a model; or parameters, groups of them, or named parameters, as PyTorch takes them; or what
            `groups` returns.
        hyperparameters: by position or name, as the rule declares them.
        wrappers: what goes around the rule: ``[clip_norm(1.0), cautious()]``.
        fallback: for a rule that takes matrices only, the hyperparameters of the AdamW that moves all
            other parameters; those not given are the rule's where AdamW has them, else AdamW's.
        state_dtype: of the states, and of the computation of a step; None: the parameter's.
        stochastic_rounding: whether parameters in bfloat16 are rounded up or down by chance, so that small
            steps are not lost; needs ``state_dtype=torch.float32``.
        backend: what runs the steps: "kernels" compiled for the CPU, "compiled" by torch.compile for GPUs,
            "eager" one operation after the other, or "auto", which chooses among them for each parameter.

    Raises:
        InputError: an unknown name, or a value out of range, the latter also in a group.
    """

    rule: ClassVar[Rule]  # as it stands in the catalogue
    own: Rule  # with the wrappers around it
    carried: str = ""  # what `change` carried over from another optimizer

    def __init_subclass__(cls, rule: Rule) -> None:
        cls.rule = rule
        cls.__signature__ = arguments.signature(rule)  # type: ignore[attr-defined]
        cls.__doc__ = f"{cls.__doc__}\n{arguments.documentation(rule)}"

    def __init__(
        self,
        params: Any,
        *positional: Any,
        wrappers: Sequence[Applied] = (),
        fallback: Mapping[str, Any] | None = None,
        state_dtype: torch.dtype | None = None,
        stochastic_rounding: bool = False,
        backend: str = "auto",
        **named: Any,
    ) -> None:
        if named.pop("differentiable", False):
            raise InputError(
                f"differentiable of {self.rule.title}",
                "be False",
                True,
                "The step works in place and is not recorded by autograd.",
            )
        flags = {
            name: named.pop(name) for name in EXECUTION_FLAGS if name in named and name not in self.rule.hyper
        }
        given = arguments.by_place(self.rule, positional, named)
        self._put_on(wrappers, Execution.checked(self.rule, state_dtype, stochastic_rounding, backend))
        arguments.refuse_twice(self.rule, given, self.wrappers)
        self.fallback = routing.checked_fallback(fallback, self.rule)
        if isinstance(params, nn.Module):
            self._model: Callable[[], nn.Module | None] = weakref.ref(params)
        super().__init__(routing.routed(params, self.rule), self._checked(self.own, given) | flags)

    def _put_on(self, wrappers: Sequence[Applied], execution: Execution) -> None:
        self.wrappers = arguments.worn(self.rule, wrappers)
        self.execution = execution
        self.own = wrapped(self.rule, self.wrappers)
        self.beside = wrapped(routing.FALLBACK, self.wrappers) if self.rule.least_axes else self.own
        self.clipped = False  # whether the last step shortened a gradient
        self.skips = "skip_nonfinite_limit" in self.own.hyper
        self.shares = self.own.initial_shared is not None
        self.planned, self.planned_before = planned.nothing()
        self._evaluating = False
        self._displaced = False  # whether parameters are where the second gradient is taken
        self._second = False  # whether the gradients that are there are second ones
        self._model = _no_model

    def rule_of(self, group: Mapping[str, Any]) -> Rule:
        """Return the rule that moves the parameters of a group, with the wrappers around it."""
        return self.beside if group.get("rule") == routing.FALLBACK.name else self.own

    @property
    def routes(self) -> str:
        """Which rule moves which parameters, and why, in words."""
        return routing.words(self.param_groups, self.rule)

    @property
    def runs(self) -> str:
        """Which backend ran the last step of which parameters, in words."""
        return "No step was taken yet." if self.planned is None else self.planned.words

    @staticmethod
    def _checked(rule: Rule, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return all hyperparameters; a rate may be a tensor with one element, as PyTorch allows."""
        return rule.checked(plain(given)) | dict(given)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with hyperparameters of their own; those not given are the defaults.

        A `rate_factor` multiplies the group's rate, which is the default's if the group has none.
        """
        given: object = param_group
        if not isinstance(given, Mapping):  # which PyTorch itself refuses
            add_param_group(self, param_group)
            return
        ready = []
        for group in routing.split(param_group, self.rule):
            rule = self.rule_of(group)
            values = {n: group.get(n, x) for n, x in self._defaults(rule).items()}
            self._checked(rule, values)
            if "rate_factor" in group:
                FACTOR.check("rate_factor", f"a group of {self.rule.title}", group["rate_factor"])
                values["lr"] = values["lr"] * group["rate_factor"]
            ready.append((rule, group | values, values))
        before = len(self.param_groups)
        try:
            for rule, group, values in ready:
                add_param_group(self, group)
                self._finish_group(rule, rule.values(plain(values)), param_group)
        except Exception:
            del self.param_groups[before:]
            raise

    def _finish_group(self, rule: Rule, values: Any, given: Mapping[str, Any]) -> None:
        """Complete the last group, which PyTorch has just made."""
        added = self.param_groups[-1]
        for name in self.defaults.keys() - rule.hyper.keys() - given.keys():
            if name in self.own.hyper:  # the main rule's, which PyTorch gives to every group
                del added[name]
        added.update(scalars.initial(rule, values) | scalars.found(self, rule))
        if rule.state_at_once:
            with torch.no_grad():
                for parameter in added["params"]:
                    self._complete_state(rule, parameter, values)

    def _defaults(self, rule: Rule) -> dict[str, Any]:
        if rule is self.own:
            return {n: self.defaults[n] for n in rule.hyper}
        return rule.defaults() | routing.fallback_defaults(self.fallback, self.defaults, self.rule)

    def _complete_state(self, rule: Rule, parameter: Tensor, values: Any) -> None:
        complete(rule, parameter, self.state[parameter], values, self.execution.state_dtype)

    zero_grad = zero_grad

    # The step.

    def _step(self, closure: Callable[[], Any] | None = None) -> Any:
        self._refuse_elsewhere("step")
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
                if self.own.offset is not None:
                    with self.perturbed():
                        closure()
        if self.own.offset is not None and not self._second:
            raise ThalwegError(
                f"{self.rule.title} with {self._named('offset')} must step with second gradients; got the "
                "first ones. Compute them inside `with optimizer.perturbed():`, or call step(closure)."
            )
        self._second = self.clipped = False
        done = planned.advanced(self)
        self.clipped = done.clipped is not False and bool(torch.as_tensor(done.clipped).any())
        if done.skipped is not NEVER and done.skipped:
            self._skip()
            return loss
        if self.skips:
            scalars.put(self, {"skipped_in_a_row": 0})
        for numbers in done.shared.values():
            scalars.put(self, {name: float(x) for name, x in numbers._asdict().items()})
        return loss

    def step(self, *given: Any, **named: Any) -> Any:
        """Move every parameter that has a gradient; return what the closure, run first, returns.

        With SAM or ASAM a closure is run twice, for the first and the second gradient.

        Raises:
            InputError: a gradient is of a kind that the rule cannot take, or parameters overlap in memory.
                Nothing has moved then.
            ThalwegError: the weights are those to evaluate with, or SAM's second gradient is missing.
            NonFiniteGradients: gradients were not finite in as many steps in a row as `skip_nonfinite` was
                given as its limit. Nothing has moved then.
        """
        return (self._watched_step if planned.watched(self) else self._step)(*given, **named)

    step.__signature__ = inspect.signature(_step)  # type: ignore[attr-defined]
    _watched_step = torch.optim.Optimizer.profile_hook_step(_step)
    step.hooked = True  # type: ignore[attr-defined]  # PyTorch is not to wrap it: hooks are rare, and cost

    def _refuse_elsewhere(self, what: str) -> None:
        if self._evaluating:
            raise ThalwegError(
                f"{self.rule.title} must have the weights that are trained for {what}(); got those to "
                "evaluate with. Call optimizer.train() first."
            )
        if self._displaced:
            raise ThalwegError(
                f"{self.rule.title} must have its parameters where they are trained for {what}(); got them "
                f"moved by {self._named('offset')}. Leave the `with optimizer.perturbed():` block first."
            )

    def _named(self, part: str) -> str:
        return ", ".join(a.wrapper.name for a in self.wrappers if getattr(a.wrapper, part))

    @property
    def skipped_steps(self) -> int:
        """How many steps were left out because gradients were not finite."""
        return int(self.scalars().get("skipped_steps", 0))

    def _skip(self) -> None:
        row = int(self.scalars()["skipped_in_a_row"]) + 1
        scalars.put(self, {"skipped_steps": self.skipped_steps + 1, "skipped_in_a_row": row})
        limit = self.param_groups[0]["skip_nonfinite_limit"]
        if row >= limit:
            raise NonFiniteGradients(
                f"The gradients that {self.rule.title} is given must be finite in at least one of {limit} "
                f"steps in a row; got {row} steps without. Lower the rate, or look for what "
                "overflows; weights and states are those before the first of them."
            )

    # A second gradient: SAM and ASAM.

    @contextmanager
    def perturbed(self, model: nn.Module | None = None) -> Iterator[None]:
        """Have parameters where the loss is worse nearby, to compute the second gradient of SAM there.

        ::

            loss(model).backward()
            with optimizer.perturbed():
                optimizer.zero_grad()
                loss(model).backward()
            optimizer.step()

        At the end of the block parameters are as before, bit for bit, and so are the buffers of the model,
        so that BatchNorm counts each batch once. Each gradient may be accumulated over several batches, and
        scaled by a `GradScaler`: the way moved does not depend on the scale, and there is none where the
        gradient is not finite.

        Args:
            model: whose buffers are put back; by default the one that the optimizer was made of. One
                made of parameters or groups knows none, nor does a copy: then buffers see both passes.

        Raises:
            ThalwegError: there is no SAM or ASAM, there are no gradients, or parameters are moved already.
        """
        self._refuse_elsewhere("perturbed")
        if self.own.offset is None:
            raise ThalwegError(
                f"{self.rule.title} must have sam or asam among its wrappers for perturbed(); got "
                f"{[a.wrapper.name for a in self.wrappers]}. Pass wrappers=[sam()]."
            )
        moves = sharpness.offsets(self.param_groups, self.rule_of)
        self._displaced = True
        try:
            with sharpness.displaced(moves, self._model() if model is None else model):
                yield
        finally:
            self._displaced = False
        self._second = True

    # Curvature that a driver measures: Sophia.

    @property
    def curvature(self) -> Curvature | None:
        """What `refresh` wants to be given every `update_every` steps; None for nearly all methods."""
        return self.own.curvature

    def refresh(self, diagonal: Iterable[Tensor]) -> None:
        """Take in an estimate of the diagonal of the Hessian, a tensor for each parameter in turn."""
        curvature.refresh(self, diagonal)

    # Weights to evaluate with, where they are not those that are trained.

    @property
    def two_faced(self) -> bool:
        """Whether it has weights to evaluate with beside those that are trained."""
        return any(self.rule_of(group).evaluated is not None for group in self.param_groups)

    @property
    def evaluates(self) -> bool:
        """Whether the weights to evaluate with are in place of those that are trained."""
        return self._evaluating

    def eval(self) -> None:
        """Put the weights to evaluate with, and to save, in place of those that are trained.

        The latter are kept in the state, and so in `state_dict()`; `train` brings them back bit for bit.
        Nothing happens where there is one set of weights only.
        """
        if not self._evaluating and self.two_faced:
            self._refuse_elsewhere("eval")
            faces.show(self.param_groups, self.state, self.rule_of, self.execution.state_dtype)
            self._evaluating = True

    def train(self) -> None:
        """Bring the weights that are trained back, bit for bit."""
        self._evaluating = False
        faces.bring_back(self.state)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Have the weights to evaluate with inside a `with` block."""
        before = self._evaluating
        self.eval()
        try:
            yield
        finally:
            if not before:
                self.train()

    def attach(self, model: nn.Module) -> faces.Attachment:
        """Let a model refuse to switch modes, or to give its state, with the wrong weights in place.

        From then on, for a method with weights to evaluate with, ``model.eval()`` and ``model.state_dict()``
        are an error while those that are trained are in place, and ``model.train()`` while they are not; the
        message says what to call. ``remove()`` of what is returned ends that. Nothing happens for other
        methods.

        The watch is over this model alone, and over these three calls: not over ``submodule.eval()``,
        copies (which are not watched), ``torch.save(model)``, or parameters that are read directly. The
        class of the model becomes a subclass with the same name: `isinstance` holds, ``type(model) is`` does
        not.
        """
        return faces.Attachment(self, model)

    # States.

    def scalars(self) -> dict[str, Any]:
        """Return the numbers in the groups that steps change: Prodigy's d, the count of skipped steps."""
        return scalars.all_of(self)

    def set_scalars(self, numbers: Mapping[str, Any]) -> None:
        """Put back what `scalars` returned."""
        scalars.put(self, numbers)

    def load_state_dict(self, state_dict: dict[str, Any], strict: bool = True) -> None:
        """Take over a state saved by this class or by PyTorch's of the same name.

        Tensors are copied to the parameter's device and keep their dtype. Parameters are matched by name
        where both sides have names, else by position.

        Args:
            state_dict: the state; it is not changed.
            strict: if False, parameters whose name is on one side only are passed over, and what wrappers
                keep starts anew where the state does not have it. Where the parameters of a group are not
                those of a group of the state, the group keeps its hyperparameters.

        Raises:
            InputError: the state is another method's, or lacks a buffer or parameters, or has other ones.
                Nothing was changed then.
        """
        states.load(self, state_dict, strict, super().load_state_dict)

    def settle(self) -> None:
        """Take in states and groups from elsewhere: see which weights are in place; complete the groups."""
        self._evaluating = any(faces.TRAINED in kept for kept in self.state.values())
        for group in self.param_groups:
            rule = self.rule_of(group)
            missing = self._defaults(rule)
            missing |= scalars.initial(rule, rule.values(plain(missing | group)))
            for name, value in missing.items():
                group.setdefault(name, value)

    def __getstate__(self) -> dict[str, Any]:
        kept: dict[str, Any] = super().__getstate__()
        return kept | {"worn": self.wrappers, "execution": self.execution, "fallback": self.fallback}

    def __setstate__(self, state: dict[str, Any]) -> None:
        copied = "worn" in state  # a copy or what was pickled; PyTorch comes here when it loads a state, too
        if copied:
            self._put_on(state.pop("worn"), state.pop("execution"))
        super().__setstate__(state)
        if copied:
            self.settle()
