"""The public HTTP API: stateless, any number of processes beside the workers. docs/gateway.md describes it."""
