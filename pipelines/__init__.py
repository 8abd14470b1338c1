"""One thin command for each stage of dvc.yaml."""
