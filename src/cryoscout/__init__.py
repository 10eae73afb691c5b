"""cryoscout: which holes of a cryo-EM grid to image next, with honest probabilities and plans."""

__version__ = "0.2.0"
