"""The one model of a session, its store, its joins and splits, and the built-in sessions."""
