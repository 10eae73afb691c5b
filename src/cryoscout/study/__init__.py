"""The papers' tables and figures run again, the delay sweep, and the one report builder."""
