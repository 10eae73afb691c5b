"""Tokens that the tests of the server share."""

from __future__ import annotations

from cryoscout.live.tokens import Tokens

OPERATOR = "operator-token-of-the-tests"
TOKENS = Tokens(operator=OPERATOR, viewer="viewer-token-of-the-tests")
