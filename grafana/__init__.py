"""The boards, as code: `python -m grafana` writes the JSON beside it that Grafana is provisioned with."""
