"""SSL2-RL: a perception model and a policy that improve each other, for any problem of states that are visited."""
