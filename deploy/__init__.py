"""What runs Fairmark on a machine: the local object store now; proxy, containers and cloud templates beside it."""
