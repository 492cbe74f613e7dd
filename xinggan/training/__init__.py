"""Training of any `Method`: the loop, checkpoints, moving averages, one process or several."""
