"""Tables that a site makes itself."""
