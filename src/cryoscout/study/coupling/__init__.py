"""Studies of SSL2-RL: perception and policy that improve each other."""
