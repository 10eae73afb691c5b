"""Studies of hole images: perception and the simulator."""
