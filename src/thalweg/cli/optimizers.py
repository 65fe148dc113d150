"""`thalweg optimizers`: the methods and wrappers, a page for each, and their values in other terms."""

from collections.abc import Iterator, Mapping
from typing import Any

import click

from thalweg.cli.options import NUMBER, WHOLE, json_option, print_json, settings
from thalweg.cli.prose import say
from thalweg.errors import InputError


@click.command()
@click.argument(
    "name", required=False, help="An optimizer or wrapper: its formula, defaults, when to take it, source."
)
@click.option("--wrappers", is_flag=True, help="List what can go around any optimizer.")
@click.option("--to", metavar="NAME", help="Translate the values of NAME into those of this optimizer.")
@click.option("--lr", type=NUMBER, metavar="RATE", help="Rate to translate; else the default.")
@click.option(
    "--weight-decay", type=NUMBER, metavar="DECAY", help="Weight decay to translate; else the default."
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="Another value to translate, such as betas=0.9,0.95. Repeatable.",
)
@click.option(
    "--to-set",
    "wanted",
    multiple=True,
    metavar="NAME=VALUE",
    help="A value that the target has anyway, such as buffer=mean. Repeatable.",
)
@click.option("--batch-size", type=WHOLE, metavar="B", help="Batch size that the values are for.")
@click.option("--to-batch-size", type=WHOLE, metavar="B", help="Batch size to translate them to.")
@json_option
def optimizers(
    name: str | None,
    wrappers: bool,
    to: str | None,
    batch_size: int | None,
    to_batch_size: int | None,
    as_json: bool,
    **values: Any,
) -> None:
    """List the optimizers, show one in full, or translate its values.

    Each translated value comes with its source, and with how far to trust it: exact, derived from the
    formulas, a rule of thumb, or no rule known.

    \b
    thalweg optimizers adamw
    thalweg optimizers adamw --to lion --lr 3e-4 --weight-decay 0.1
    thalweg optimizers sgd --lr 0.1 --batch-size 256 --to-batch-size 1024
    """
    translating = {
        "--to": to,
        "--batch-size": batch_size,
        "--to-batch-size": to_batch_size,
        "--lr": values["lr"],
        "--weight-decay": values["weight_decay"],
        "--set": values["settings"] or None,
        "--to-set": values["wanted"] or None,
    }
    asked = [option for option, value in translating.items() if value is not None]
    if name is None and asked:
        raise InputError(asked[0], "come with the name of an optimizer", "none")
    if wrappers and name is not None:
        raise InputError("--wrappers", "stand alone", repr(name), "It lists all of them.")
    if name is not None and asked:
        _translation(name, to, (batch_size, to_batch_size), values, as_json)
        return

    from thalweg.rules import pages

    if name is not None:
        page = pages.page(name)
        print_json(page) if as_json else _page(page)
    elif wrappers:
        found = list(pages.wrappers())
        print_json(found) if as_json else _wrappers(found)
    else:
        found = list(pages.methods())
        print_json(found) if as_json else _methods(found)


def _methods(found: list[dict[str, Any]]) -> None:
    from thalweg.cli.table import show

    rows: list[tuple[str, ...]] = []
    families: list[str] = []
    rules: dict[str, str] = {}  # title → the first preset, whose paper is told
    for page in found:
        family = "" if page["family"] in families else page["family"]
        first = rules.setdefault(page["rule"], page["name"])
        cost, paper = (page["cost"], page["paper"]) if first == page["name"] else (f"as {first}",) * 2
        rows.append((page["name"], family, page["state"]["words"], str(page["year"]), cost, paper))
        families.append(page["family"])
    show(("optimizer", "family", "state", "year", "cost beside the gradient", "paper"), rows)
    _say(
        "State: numbers that are kept for each parameter, counted on an n × n matrix. One in full: thalweg "
        "optimizers adam. What goes around them: thalweg optimizers --wrappers"
    )


def _wrappers(found: list[dict[str, Any]]) -> None:
    from thalweg.cli.table import show

    rows = [(page["name"], page["title"], page["state"]["words"], page["use"]) for page in found]
    show(("wrapper", "what it is", "state", "when to take it"), rows)
    _say(
        "State: numbers that are added for each parameter. One in full: thalweg optimizers lookahead. In "
        "use: thalweg train digits --wrap clip_norm:1"
    )


def _page(page: Mapping[str, Any]) -> None:
    from thalweg.cli.table import show

    if page["kind"] == "method":
        fixed = ", ".join(f"{n} = {v}" for n, v in page["fixed"].items())
        click.echo(f"{page['name']}: {page['rule']}{f' with {fixed}' if fixed else ''}. {page['use']}\n")
    else:
        click.echo(f"{page['name']}: {page['title']}, around any optimizer. {page['use']}\n")
    click.echo(page["formula"] + "\n")
    fields = [(h["name"], h["default"], h["must"], h["meaning"]) for h in page["hyperparameters"]]
    if fields:
        show(("hyperparameter", "default", "must be", "meaning"), fields)
    for heading, said in _facts(page):
        _say(f"{heading}: {said}" if isinstance(said, str) else f"{heading}:")
        for sentence in () if isinstance(said, str) else said:
            say(sentence, "- ", "  ")


def _facts(page: Mapping[str, Any]) -> Iterator[tuple[str, str | list[str]]]:
    """Yield what a page says beside the formula, without what it does not say."""
    facts = {
        "When to take it": page.get("take"),
        "When not": page.get("avoid"),
        "Elsewhere under this name": page.get("differs"),
        "Often told wrongly": page.get("wrong"),
        "Numbers of state per parameter of an n × n matrix": page["state"]["words"],
        "Cost": page.get("cost"),
        "Search for its rate starts around": f"{page['centre']:g}" if "centre" in page else None,
        "Paper": page.get("paper"),
        "Source": page["source"],
    }
    yield from ((heading, said) for heading, said in facts.items() if said)


def _translation(
    name: str,
    to: str | None,
    sizes: tuple[int | None, int | None],
    values: Mapping[str, Any],
    as_json: bool,
) -> None:
    from thalweg.cli.table import show
    from thalweg.rules.translate import method, translate
    from thalweg.rules.translation.answer import words

    given = settings("--set", method(name).rule.hyper, values["settings"])
    for option in ("lr", "weight_decay"):
        if values[option] is not None:
            if option in given:
                raise InputError(f"--set {option}", "be left out beside its own option", given[option])
            given[option] = values[option]
    wanted = settings("--to-set", method(to or name).rule.hyper, values["wanted"])
    found = translate(name, to, batch_size=sizes[0], to_batch_size=sizes[1], wanted=wanted, **given)
    if as_json:
        rows = [{**item._asdict(), "trust": item.trust.value} for item in found.values]
        print_json({**found._asdict(), "values": rows, "notes": list(found.notes)})
        return
    click.echo(f"{found.of} → {found.to}\n")
    columns = ("hyperparameter", "from", "to (range)", "trust")
    show(columns, [(v.name, _text(found.given.get(v.name)), words(v), v.trust.value) for v in found.values])
    click.echo()
    for item in found.values:
        why = f"{item.name}: {item.why} [{item.source}]"
        say(why, "- ", "  ")
    for note in found.notes:
        _say(note)


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def _say(text: str) -> None:
    click.echo()
    say(text)
