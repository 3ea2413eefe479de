"""What a developer runs beside the service: dev, load, smoke. Prints nothing; the command line does."""
