"""Learned route policies: environments, agents, training, and a forward pass that needs no torch."""
