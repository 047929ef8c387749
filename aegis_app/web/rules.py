"""What is in force: the policy, rule by rule, and the lists."""

from typing import Any

from aegis_app.application import broadcasts, in_force, lists
from aegis_app.core.lists import ListName
from aegis_app.web.pages import Answer, page


@page("/rules")
async def rules(request: Any) -> Answer:
    """Mode, version and origin of the policy, each rule with its text, limits, state and what it asks for; and how much is listed."""
    now, listed = in_force(), lists.held.lists
    described = now.policy.described()
    texts = {clause.rule.name: clause.rule.text for clause in now.policy.clauses}
    return 200, {
        "policy": now.policy.version,
        "source": now.source(),
        "mode": described["mode"],
        "on_failure": described["on_failure"],
        "models": described["models"],
        "rules": [{"rule": name, "text": texts[name], **limits} for name, limits in described["rules"].items()],
        "lists": {
            "version": listed.version,
            "entries": {name: {of: number for (at, of), number in listed.counts.items() if at is name} for name in ListName},
        },
        "age_seconds": {broadcast.name: round(broadcast.age, 1) for broadcast in broadcasts},
    }
