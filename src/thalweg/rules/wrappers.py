"""The one list of wrappers."""

from collections.abc import Mapping

from thalweg.rules.averages import EMA, LOOKAHEAD, SWA
from thalweg.rules.cautious import CAUTIOUS
from thalweg.rules.decays import DECOUPLED_DECAY, L2
from thalweg.rules.gradients import AGC, CENTRALISE, CLIP_GROUP_NORM, CLIP_NORM, CLIP_VALUE, SKIP_NONFINITE
from thalweg.rules.proximal import PROXIMAL
from thalweg.rules.sam import ASAM, SAM
from thalweg.rules.wrap import Wrapper

WRAPPERS: Mapping[str, Wrapper] = {
    wrapper.name: wrapper
    for wrapper in (
        CLIP_VALUE, CLIP_NORM, CLIP_GROUP_NORM, AGC, CENTRALISE, SKIP_NONFINITE,
        CAUTIOUS, L2, DECOUPLED_DECAY, PROXIMAL, LOOKAHEAD, EMA, SWA, SAM, ASAM,
    )
}  # fmt: skip
