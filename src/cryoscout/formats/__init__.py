"""Readers of vendor formats: bytes to faithful records, no opinion."""
