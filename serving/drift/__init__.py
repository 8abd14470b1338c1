"""Whether essays are still like those that the models learned from: counts in bins, held against the bundle's own."""
