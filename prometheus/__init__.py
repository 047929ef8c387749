"""Rules and alerts for Prometheus, and the page that alerts lead to."""
