"""Fine-tuning with given pseudo-labels and their confidence: what the coupling with a policy trains.

Loss: (1 / B) sum_i w_i CE(f(weak(x_i)), y_i) + lambda times FixMatch's, where w_i = 1 for a true label and the
confidence p_i for a pseudo-label; a labelled crop is drawn with chance proportional to 1, a pseudo-labelled one to p_i.
Paper: SSL2-RL, section 3 (l = l_sup + lambda l_U; confidence-proportional sampling).
Departures: the sum over both sets is the mean over a batch of B drawn from them together, so pseudo-labels outnumber
true labels in it as they do in the sum; held-out labels are in neither set.
"""

from __future__ import annotations

from cryoscout.perception.methods.fixmatch import FixMatch


class PseudoLabel(FixMatch):
    """FixMatch whose supervised part also draws pseudo-labels: the loop's pool holds them with their weights."""
