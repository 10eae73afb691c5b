"""The only model of what is not known yet: calibration, context, patch, square and grid effects, draws."""
