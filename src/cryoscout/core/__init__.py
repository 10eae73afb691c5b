"""What every part of cryoscout shares: errors, units, settings."""
