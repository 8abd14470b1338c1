"""From a checkpoint to what serving loads."""
