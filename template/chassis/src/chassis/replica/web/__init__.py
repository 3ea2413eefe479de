"""The team's HTTP app, served beside the consumer. Only a service that mounts one imports it."""
