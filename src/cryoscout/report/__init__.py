"""One page about one session: its sections, maps and figures."""
