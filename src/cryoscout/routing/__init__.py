"""The route problem, its planners, the exact bound and the replay against the truth. No torch here."""
