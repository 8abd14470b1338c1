"""From a checkpoint to what serving loads: graph, parity with the module, golden essays, bundle."""
