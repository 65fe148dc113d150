"""Commands whose argument is a formula, which may begin with a minus sign."""

import click


class FormulaCommand(click.Command):
    """A command that reads ``-x^2`` in the first place as a formula and not as an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put a formula that looks like an option behind a ``--``, where click takes it as it is."""
        options = {name for param in self.get_params(ctx) for name in param.opts}
        first = args[0] if args else ""
        if first[:1] == "-" and first[1:2] not in ("", "-") and first not in options and "--" not in args:
            args = [*args[1:], "--", first]
        return super().parse_args(ctx, args)
