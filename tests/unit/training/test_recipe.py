"""A recipe is complete, comparable, survives TOML, and refuses in words."""

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg import schedules
from thalweg.errors import InputError
from thalweg.hyper import documentation_rows
from thalweg.rules.catalogue import CATALOGUE
from thalweg.training.recipe import FIELDS, Plateau, Recipe

positive = st.floats(1e-8, 1e8)
shares = st.floats(0.0, 1.0)


def hyperparameters(optimizer: str) -> st.SearchStrategy[dict[str, Any]]:
    hyper = CATALOGUE[optimizer].rule.hyper
    drawn: dict[str, st.SearchStrategy[Any]] = {"weight_decay": shares} if "weight_decay" in hyper else {}
    if "beta3" in hyper:
        drawn["beta3"] = st.none() | st.floats(0.0, 0.99)
    if optimizer == "adafactor":
        drawn["eps"] = st.sampled_from([(None, 0.01), (0.1, 0.01)])
    if "amsgrad" in hyper:
        drawn["betas"] = st.tuples(st.floats(0.0, 0.99), st.floats(0.0, 0.9999))
        # the flag that makes amsgrad what it is cannot be turned off
        drawn["amsgrad"] = st.just(True) if optimizer == "amsgrad" else st.booleans()
    return st.fixed_dictionaries({}, optional=drawn)


shapes = (
    st.builds(schedules.Constant)
    | st.builds(schedules.Cosine, length=st.none() | st.integers(1, 1000), floor=shares)
    | st.builds(schedules.Multistep, milestones=st.sampled_from([(), (3, 30)]))
    | st.builds(schedules.WarmupCosine, warmup=st.integers(1, 9), floor=shares)
)
any_schedule = (
    shapes
    | st.builds(schedules.Product, shapes, shapes)
    | st.builds(schedules.Join, shapes, shapes, st.integers(0, 9))
)
whole = st.integers(1, 10**6)
plateaus = st.builds(Plateau, factor=st.floats(0.01, 0.99), patience=whole, threshold=shares)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    optimizer = draw(st.sampled_from(sorted(CATALOGUE)))
    return Recipe(
        optimizer=optimizer,
        rate=draw(st.none() | positive),
        hyperparameters=draw(hyperparameters(optimizer)),
        schedule=draw(any_schedule),
        batch_size=draw(whole | st.just("all")),
        micro_batch=draw(st.none() | whole),
        sampling=draw(st.sampled_from(["shuffled", "in order", "with replacement"])),
        wrappers=draw(
            st.fixed_dictionaries(
                {},
                optional={"clip_norm": positive, "clip_value": positive, "cautious": st.just({"floor": 0.1})},
            )
        ),
        plateau=draw(st.none() | plateaus),
        patience=draw(st.none() | whole),
        precision=draw(st.sampled_from(["float32", "float64"])),
    )


@given(recipes())
def test_a_recipe_survives_toml_exactly(recipe: Recipe) -> None:
    assert Recipe.from_toml(recipe.to_toml()) == recipe
    assert Recipe.from_data(tomllib.loads(recipe.to_toml())).to_data() == recipe.to_data()


def test_defaults_are_adam_at_the_centre_of_its_search_in_batches_of_32() -> None:
    assert Recipe().to_data() == {
        "optimizer": "adam",
        "rate": 1e-3,
        "schedule": {"name": "constant"},
        "batch_size": 32,
        "sampling": "shuffled",
        "precision": "float32",
    }
    assert [Recipe(name).rate for name in CATALOGUE] == [p.centre for p in CATALOGUE.values()]


def test_given_hyperparameters_stand_over_the_presets_and_those_over_the_defaults() -> None:
    assert Recipe("momentum", 0.2).values()["momentum"] == 0.9
    values = Recipe("momentum", 0.2, {"momentum": 0.5}).values()
    assert (values["lr"], values["momentum"], values["dampening"]) == (0.2, 0.5, 0.0)


def test_a_recipe_as_a_person_writes_it() -> None:
    text = """
    optimizer = "adamw"
    rate = 1
    patience = 3
    batch_size = "all"
    hyperparameters = {betas = [0.8, 0.9]}
    schedule = {name = "cosine", floor = 0.1}
    plateau = {factor = 0.5}
    """
    assert Recipe.from_toml(text) == Recipe(
        "adamw",
        rate=1.0,
        hyperparameters={"betas": (0.8, 0.9)},
        schedule=schedules.Cosine(floor=0.1),
        batch_size="all",
        plateau=Plateau(factor=0.5),
        patience=3,
    )


def test_equal_recipes_are_written_alike_whatever_type_their_numbers_had() -> None:
    given = Recipe(
        "sgd",
        np.float32(1),
        {"momentum": np.float32(0.5)},
        batch_size=np.int64(8),
        wrappers={"clip_norm": np.int64(2)},
    )  # type: ignore[arg-type]
    plain = Recipe("sgd", 1.0, {"momentum": 0.5}, batch_size=8, wrappers={"clip_norm": {"limit": 2.0}})

    assert given == plain
    assert given.to_toml() == plain.to_toml()


def test_with_rate_changes_the_rate_alone() -> None:
    recipe = Recipe("adam", 0.1, {"betas": (0.5, 0.5)}, batch_size=3, patience=2)

    assert recipe.with_rate(0.2) == dataclasses.replace(recipe, rate=0.2)


def refused(**fields: Any) -> InputError:
    with pytest.raises(InputError) as refusal:
        Recipe(**fields)
    return refusal.value


INVALID = [
    (name, value)
    for name, declared in FIELDS.items()
    for value in declared.invalid()
    if value is not None or declared.default is not None  # else None means that it is not used
]


@pytest.mark.parametrize(("name", "value"), INVALID, ids=lambda x: repr(x))
def test_every_invalid_value_of_a_field_is_refused_with_who_must_and_got(name: str, value: Any) -> None:
    error = refused(**{name: value})

    assert error.who == f"{name} of the recipe"
    assert error.must == f"be {FIELDS[name].must}"
    assert error.got == repr(value)


INVALID_PLATEAU = [(name, value) for name, row in Plateau.FIELDS.items() for value in row.invalid()]


@pytest.mark.parametrize(("name", "value"), INVALID_PLATEAU, ids=lambda x: repr(x))
def test_every_invalid_value_of_plateau_is_refused(name: str, value: Any) -> None:
    for make in (lambda: Plateau(**{name: value}), lambda: Recipe.from_data({"plateau": {name: value}})):
        with pytest.raises(InputError) as refusal:
            make()
        assert (refusal.value.who, refusal.value.got) == (f"{name} of plateau", repr(value))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("optimizer", "adm", "the optimizer must be one that Thalweg knows; got 'adm'. Did you mean adam"),
        ("optimizer", 3, "the optimizer must be a name; got 3."),
        ("optimizer", ["adam"], "the optimizer must be a name; got ['adam']."),
        ("hyperparameters", {"lr": 1}, "must leave the rate out; got lr. Pass it as rate=…."),
        ("hyperparameters", {"beta": 1}, "must be among lr, betas, eps"),
        ("hyperparameters", {"betas": (1.0, 0.9)}, "betas of Adam must be 2 numbers, each a number in"),
        ("hyperparameters", 0.9, "of a recipe must be a table of names and values; got 0.9."),
        ("schedule", "cosine", "the schedule of a recipe must be a schedule; got 'cosine'."),
        ("plateau", True, "plateau of a recipe must be a Plateau; got True."),
    ],
)  # fmt: skip
def test_what_is_not_a_number_is_refused_in_words_too(field: str, value: Any, message: str) -> None:
    assert message in str(refused(**{field: value}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clip = 1.0", "the fields of a recipe must be among batch_size, hyperparameters, "),
        ("patienc = 1.0", "got 'patienc'. Did you mean patience"),
        ("wrappers = 1.0", "the wrappers of a recipe must be a table of names and values; got 1.0."),
        ("wrappers = {clip_nrm = 1.0}", "got 'clip_nrm'. Did you mean clip_norm"),
        ("wrappers = {clip_norm = 0.0}", "limit of clip_norm must be a finite number above 0; got 0.0."),
        ("wrappers = {clip_norm = {lim = 0.0}}", "got 'lim'"),
        ("rate = ", "the recipe must be a TOML document; got Invalid value (at "),
        ("plateau = 3", "plateau of a recipe must be a table; got 3."),
        ("plateau = {wait = 3}", "got 'wait'"),
        ("schedule = 'cosine'", "a schedule must be a table with a name; got 'cosine'."),
        ("schedule = {name = 'cosin'}", "Did you mean cosine"),
        ("hyperparameters = 3", "of a recipe must be a table of names and values; got 3."),
        ("optimizer = 'adm'", "Did you mean adam"),
    ],
)  # fmt: skip
def test_a_mistake_in_toml_is_refused_in_words(text: str, message: str) -> None:
    with pytest.raises(InputError) as refusal:
        Recipe.from_toml(text)
    assert message in str(refusal.value)


@pytest.mark.parametrize("row", [*documentation_rows(FIELDS), *documentation_rows(Plateau.FIELDS)], ids=str)
def test_the_page_on_training_has_every_field_as_it_is_declared(row: tuple[str, str, str, str]) -> None:
    page = (Path(__file__).parents[3] / "docs" / "training.md").read_text()
    name, default, must, meaning = row
    must += ', or "all"' * (name == "batch_size")

    assert f"| `{name}` | {'–' if default == 'None' else default} | {must} | {meaning} |" in page


def test_a_schedule_that_is_a_python_function_cannot_be_written() -> None:
    recipe = Recipe(schedule=schedules.Custom(lambda t: 1.0))

    with pytest.raises(InputError, match="must be made of known shapes; got a Python function"):
        recipe.to_toml()
