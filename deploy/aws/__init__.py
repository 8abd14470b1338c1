"""What the release workflow does in AWS, with the roles of deploy/cloudformation.yaml."""
