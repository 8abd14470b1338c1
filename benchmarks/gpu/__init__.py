"""A model on one NVIDIA GPU, by several runtimes."""
