"""One stopwatch: what generating and training cost, measured in fresh processes that take turns."""
