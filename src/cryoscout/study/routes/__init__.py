"""Studies of planners and predictions by replay."""
