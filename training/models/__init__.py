"""The models: pure modules from ids to a unit score."""
