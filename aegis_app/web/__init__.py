"""Read-only views of a worker."""
