"""The letters of the field for what rules call their variables and states."""

import re
from typing import Final

# One table for all rules, because a name means the same in each of them. As text, and in LaTeX.
SYMBOLS: Final = {
    "m_hat": ("m̂", r"\hat{m}"),
    "v_hat": ("v̂", r"\hat{v}"),
    "v_max": ("v_max", r"v_{\max}"),
    "v_root": ("√v", r"\sqrt{v}"),
    "root": ("root", r"\mathrm{root}"),
    "velocity": ("velocity", r"b"),
    "g": ("g", "g"),
    "g_mean": ("ḡ", r"\bar{g}"),
    "s_new": ("s", "s"),
    "product": ("Πμ", r"\prod\mu"),
    "acc_delta": ("D", "D"),
    "p_norm": ("‖θ‖", r"\lVert\theta\rVert"),
    "g_norm": ("‖g‖", r"\lVert g\rVert"),
    "r_norm": ("‖r‖", r"\lVert r\rVert"),
    "p_rms": ("RMS θ", r"\mathrm{RMS}\,\theta"),
    "u_rms": ("RMS u", r"\mathrm{RMS}\,u"),
    "eta": ("η", r"\eta"),
    "mu": ("μ", r"\mu"),
    "hessian": ("h", "h"),
    "size": ("Δ", r"\Delta"),
    "x0": ("θ₀", r"\theta_0"),
    "p0": ("θ₀", r"\theta_0"),
    "ax": ("ā", r"\bar{a}"),
    "gradient": ("gradient", r"\nabla L"),
    "rate": ("rate", r"\gamma"),
    "direction": ("direction", "d"),
    "loss": ("loss", "L"),
    "predicted_change": ("predicted change", r"\nabla L^{\top}\Delta\theta"),
    "change": ("change", r"\Delta L"),
    "uncorrected_ratio": ("step without correction ×", r"\text{step without correction} \times"),
}


def symbol(name: str) -> str:
    """Return what stands for a name in a table; a name without a letter of its own stays.

    >>> symbol("m_hat"), symbol("momentum_buffer")
    ('m̂', 'momentum_buffer')
    """
    return SYMBOLS.get(name, (name, ""))[0]


def latex(name: str) -> str:
    r"""Return what stands for a name in LaTeX.

    >>> latex("v_hat"), latex("square_avg"), latex("w1")
    ('\\hat{v}', '\\mathrm{square\\_avg}', 'w_{1}')
    """
    if name in SYMBOLS:
        return SYMBOLS[name][1]
    if found := re.fullmatch(r"([^\W\d_])_?(\d*)", name):
        return found[1] + (f"_{{{found[2]}}}" if found[2] else "")
    return rf"\mathrm{{{name}}}".replace("_", r"\_").replace(" ", r"\ ")
