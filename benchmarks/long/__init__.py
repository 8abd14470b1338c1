"""Long essays on the decoder: memory and time against length, and what a small model notices of it."""
