"""Semi-supervised methods, one file each: the loss as a formula, its paper, and where this differs from it."""

from __future__ import annotations

from cryoscout.perception.methods.align import Align
from cryoscout.perception.methods.barlow_twins import BarlowTwins
from cryoscout.perception.methods.base import Method
from cryoscout.perception.methods.defixmatch import DeFixMatch
from cryoscout.perception.methods.fixmatch import FixMatch
from cryoscout.perception.methods.pseudo_label import PseudoLabel
from cryoscout.perception.methods.regression import Regression
from cryoscout.perception.methods.softmatch import SoftMatch
from cryoscout.perception.methods.supervised import Supervised
from cryoscout.perception.settings import MethodName

STAGES: dict[MethodName, type[Method]] = {
    "supervised": Supervised,
    "fixmatch": FixMatch,
    "pseudo_label": PseudoLabel,
    "defixmatch": DeFixMatch,
    "softmatch": SoftMatch,
    "align": Align,
    "barlow_twins": BarlowTwins,
    "regression": Regression,
}
"""The method of one stage of a training; `iterative_fixmatch` is several of them."""
