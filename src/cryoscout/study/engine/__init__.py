"""How a study runs: trials, rows on disk, tables and figures; what the papers published."""
