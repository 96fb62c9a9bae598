"""Training of an `MLP`: minibatches, optimisers, schedules, when to stop, checkpoints."""
