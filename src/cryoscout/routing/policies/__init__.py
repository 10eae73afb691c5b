"""Every way of choosing the next hole that needs no torch."""
