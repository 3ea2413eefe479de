"""What a developer runs beside the service: dev, load, smoke. Only the command line prints."""
