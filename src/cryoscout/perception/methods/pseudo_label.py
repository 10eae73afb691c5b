"""Fine-tuning with labels that somebody else guessed, and their weights: what the coupling with a policy trains.

Loss: (1 / B) sum_i w_i CE(f(weak(x_i)), y_i) + lambda times FixMatch's, where w_i = 1 for a measured label and the
confidence p_i for a guess; a crop is drawn with chance proportional to its weight (`weights_in_loss` and
`weights_in_sampling` switch either off).
Paper: SSL2-RL, section 3 (l = l_sup + lambda l_U; confidence-proportional sampling).
Departures: the sum over both sets is the mean over a batch of B drawn from them together, so guesses outnumber
measured labels in it as they do in the sum; held-out labels are in neither set.
Every method takes weights, and `fixmatch` with the same ones is the same training; this name refuses to go without.
"""

from __future__ import annotations

from cryoscout.perception.methods.fixmatch import FixMatch


class PseudoLabel(FixMatch):
    """FixMatch whose supervised part also draws guesses: the loop's pool holds them with their weights."""
