"""What is in force: the policy, rule by rule."""

from typing import Any

from aegis_app.application import policy
from aegis_app.web.pages import Answer, page


@page("/rules")
async def rules(request: Any) -> Answer:
    """Mode, version, and each rule with its text, limits, state and what it asks for."""
    described = policy.described()
    texts = {clause.rule.name: clause.rule.text for clause in policy.clauses}
    return 200, {
        "policy": policy.version,
        "mode": described["mode"],
        "on_failure": described["on_failure"],
        "rules": [{"rule": name, "text": texts[name], **limits} for name, limits in described["rules"].items()],
    }
