"""Leginon's names, tables and downloads."""
