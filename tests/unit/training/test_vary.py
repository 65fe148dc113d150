"""A field of a recipe by its path: what is put where, what is read, what is refused."""

from typing import Any

import pytest

from thalweg import schedules
from thalweg.errors import InputError
from thalweg.rules.catalogue import CATALOGUE
from thalweg.training.recipe import Plateau, Recipe
from thalweg.training.vary import field_of, fields_of, named, read, said, schedule_texts, varied


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("batch_size", 64, Recipe("adam", batch_size=64)),
        ("batch_size", "all", Recipe("adam", batch_size="all")),
        ("rate", 0.5, Recipe("adam", 0.5)),
        ("sampling", "in order", Recipe("adam", sampling="in order")),
        ("precision", "float64", Recipe("adam", precision="float64")),
        ("patience", 3, Recipe("adam", patience=3)),
        ("micro_batch", None, Recipe("adam")),
        ("schedule", "cosine:floor=0.1", Recipe("adam", schedule=schedules.Cosine(floor=0.1))),
        ("schedule", schedules.Cosine(), Recipe("adam", schedule=schedules.Cosine())),
        ("plateau.factor", 0.5, Recipe("adam", plateau=Plateau(factor=0.5))),
        ("weight_decay", 0.1, Recipe("adam", hyperparameters={"weight_decay": 0.1})),
        ("amsgrad", True, Recipe("adam", hyperparameters={"amsgrad": True})),
        ("betas", (0.8, 0.9), Recipe("adam", hyperparameters={"betas": (0.8, 0.9)})),
        ("betas.0", 0.5, Recipe("adam", hyperparameters={"betas": (0.5, 0.999)})),
        ("betas.1", 0.95, Recipe("adam", hyperparameters={"betas": (0.9, 0.95)})),
        ("clip_norm", 2.0, Recipe("adam", wrappers={"clip_norm": 2.0})),
        ("clip_norm.limit", 2.0, Recipe("adam", wrappers={"clip_norm": 2.0})),
        ("lookahead.every", 7, Recipe("adam", wrappers={"lookahead": {"every": 7}})),
    ],
)
def test_a_value_is_put_where_its_path_leads(path: str, value: Any, expected: Recipe) -> None:
    assert varied(Recipe("adam"), path, value) == expected


def test_what_stands_beside_a_value_stays() -> None:
    base = Recipe(
        "adam",
        hyperparameters={"betas": (0.7, 0.8), "eps": 1e-5},
        wrappers={"lookahead": {"every": 3, "alpha": 0.8}, "clip_norm": 1.0},
        plateau=Plateau(patience=4),
        patience=9,
    )

    assert varied(base, "betas.1", 0.9).hyperparameters == {"betas": (0.7, 0.9), "eps": 1e-5}
    assert varied(base, "lookahead.alpha", 0.5).wrappers == {
        "lookahead": {"every": 3, "alpha": 0.5},
        "clip_norm": {"limit": 1.0},
    }
    assert varied(base, "plateau.factor", 0.2).plateau == Plateau(factor=0.2, patience=4)
    assert varied(base, "patience", None) == Recipe(**{**vars(base), "patience": None})


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_field_of_every_optimizer_takes_its_own_value(name: str) -> None:
    recipe = Recipe(name)
    values = recipe.values()
    for path, field in fields_of(recipe).items():
        if field.place[0] != "hyperparameters":
            continue
        value = values[str(field.place[1])]
        if len(field.place) == 3:
            value = value[int(field.place[2])]
        if value is not None:
            assert varied(recipe, path, value).values() == values


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("batch_size", "32, 128,all", [32, 128, "all"]),
        ("betas.1", "0.95,0.999", [0.95, 0.999]),
        ("weight_decay", "0,1e-2", [0.0, 0.01]),
        ("amsgrad", "true,false", [True, False]),
        ("sampling", "shuffled,with replacement", ["shuffled", "with replacement"]),
        ("patience", "none,5", [None, 5]),
        ("clip_norm", "0.5,1", [0.5, 1.0]),
        ("plateau.factor", "0.1,0.5", [0.1, 0.5]),
    ],
)
def test_values_are_read_as_they_are_declared(path: str, text: str, expected: list[Any]) -> None:
    found = read(Recipe("adam"), path, text)

    assert found == expected
    assert list(map(type, found)) == list(map(type, expected))


def test_schedules_are_cut_where_another_name_begins() -> None:
    text = "step:every=3,ratio=0.5, multistep:milestones=3,6,cosine,warmup-cosine:warmup=2"

    assert schedule_texts(text) == [
        *("step:every=3,ratio=0.5", "multistep:milestones=3,6", "cosine", "warmup-cosine:warmup=2")
    ]
    assert read(Recipe(), "schedule", text) == [
        schedules.Step(every=3, ratio=0.5),
        schedules.Multistep(milestones=(3, 6)),
        schedules.Cosine(),
        schedules.WarmupCosine(warmup=2),
    ]


def test_names_say_field_and_value_as_they_are_typed() -> None:
    values = [
        schedules.Constant(),
        schedules.Step(every=3, ratio=0.5),
        schedules.Multistep(milestones=(3, 6)),
    ]
    assert list(named("schedule", values)) == [
        *("schedule=constant", "schedule=step:every=3,ratio=0.5", "schedule=multistep:milestones=3,6")
    ]
    assert list(named("betas.1", [0.95, 0.999999])) == ["betas.1=0.95", "betas.1=0.999999"]
    assert list(named("betas", [(0.9, 0.95), [0.9, 0.999]])) == ["betas=0.9,0.95", "betas=0.9,0.999"]
    assert list(named("amsgrad", [True, False])) == ["amsgrad=true", "amsgrad=false"]
    assert list(named("batch_size", [32, "all"])) == ["batch_size=32", "batch_size=all"]
    assert said("x") == "x"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: field_of(Recipe("adam"), "batchsize"), "got 'batchsize'. Did you mean batch_size or"),
        (lambda: field_of(Recipe("adam"), "momentum"), "be one of a recipe with adam; got 'momentum'."),
        (lambda: field_of(Recipe("adam"), "betas.2"), "got 'betas.2'. Did you mean betas.1 or betas.0"),
        (lambda: field_of(Recipe("adam"), "optimizer"), "got 'optimizer'. Name several optimizers instead."),
        (lambda: field_of(Recipe("adam"), "lr"), "got 'lr'. It is the field rate."),
        (lambda: field_of(Recipe("adam"), "centralise"), "got 'centralise'."),  # it has no value
        (lambda: read(Recipe(), "betas", "0.9,0.99"),
         "must be one number; got betas, which is several. Take one of betas.0, betas.1."),
        (lambda: read(Recipe(), "batch_size", "32,many"),
         "batch_size must be a whole number of at least 1; got 'many'."),
        (lambda: read(Recipe(), "rate", "0.1,none"), "rate must be a finite number above 0; got 'none'."),
        (lambda: read(Recipe(), "schedule", "cosine,cosin"), "got 'cosin'. Did you mean cosine"),
        (lambda: varied(Recipe(), "batch_size", 0), "batch_size of the recipe must be a whole number of at"),
        (lambda: varied(Recipe(), "betas.1", 1.0), "betas of Adam must be 2 numbers, each a number in [0,"),
        (lambda: varied(Recipe(), "clip_norm", -1), "limit of clip_norm must be a finite number above 0"),
        (lambda: varied(Recipe("amsgrad"), "amsgrad", False), "must be True, which makes it what it is"),
        (lambda: named("batch_size", [32]), "must be two or more different ones; got 32."),
        (lambda: named("batch_size", [32, 32]), "must be two or more different ones; got 32, 32."),
        (lambda: named("batch_size", []), "must be two or more different ones; got none."),
    ],
)  # fmt: skip
def test_what_cannot_vary_is_refused_in_words(make: Any, message: str) -> None:
    with pytest.raises(InputError) as refusal:
        make()
    assert message in str(refusal.value)
