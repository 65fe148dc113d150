"""Random expressions as texts, for properties."""

from hypothesis import strategies as st

NAMES = ("x", "y")
_ONE = ("sin", "cos", "exp", "tanh", "atan", "sigmoid", "softplus", "sqrt", "log", "abs", "sinh", "tan")
_LEAVES = st.sampled_from([*NAMES, "0", "1", "2", "0.5", "3.25", "1e-3", "pi"])


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("{}({})".format, st.sampled_from(_ONE), inner),
        st.builds("({}) {} ({})".format, inner, st.sampled_from(["+", "-", "*", "/"]), inner),
        st.builds("({})^{}".format, inner, st.sampled_from(["2", "3", "-1", "0.5", "(x + 1)"])),
        st.builds("-({})".format, inner),
        st.builds("{}({}, {})".format, st.sampled_from(["max", "min"]), inner, inner),
    )


# Texts that the grammar accepts, with x in each.
texts = st.recursive(_LEAVES, _grown, max_leaves=8).map(lambda text: f"x + {text}")
