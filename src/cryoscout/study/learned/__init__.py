"""Studies of learned route policies."""
