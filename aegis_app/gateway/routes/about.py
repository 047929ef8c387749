"""What is in force, and how the gateway is."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from aegis_app.gateway import metrics
from aegis_app.gateway.guard import admitted
from aegis_app.gateway.problems import Problem
from aegis_app.gateway.routes import desk, json
from aegis_app.gateway.schema import OBJECT, TEXT, answers
from aegis_app.keys import Key, Scope

router: Final = APIRouter(tags=["about"])
_KEY: Final[dict[str, Any]] = {"security": [{"key": []}]}
Reader = Annotated[Key, Depends(admitted(Scope.READ))]


@router.get("/v1/rules", openapi_extra=_KEY, responses=answers(OBJECT))
async def rules(request: Request, key: Reader) -> Response:
    """The policy in force: its mode, its version, where it comes from, and each rule with its text, limits and state."""
    now = desk(request).in_force
    described = now.policy.described()
    texts = {clause.rule.name: clause.rule.text for clause in now.policy.clauses}
    named = [{"rule": name, "text": texts[name], **limits} for name, limits in described.pop("rules").items()]
    return json({"policy": now.policy.version, "source": now.source(), **described, "rules": named})


@router.get("/v1/bundle", openapi_extra=_KEY, responses=answers(OBJECT, 503))
async def bundle(request: Request, key: Reader) -> Response:
    """The bundle of models that workers serve, as one of them tells it; `bundle` is null where they decide by rules and lists alone."""
    told = await desk(request).worker("/bundle")
    if told.status != 200:
        raise Problem(503, "the worker that was asked does not tell of a bundle: it is of another version", Retry_After="5")
    return json(told.answer)


@router.get("/health", responses=answers(OBJECT, 500, keyed=False))
async def health(request: Request) -> Response:
    """Whether this process works. Not whether Kafka answers: starting it anew would not help."""
    desk(request).exchange.check()
    return json({"status": "ok", "waiting": desk(request).exchange.in_hand})


@router.get("/ready", responses=answers(OBJECT, 503, keyed=False))
async def ready(request: Request) -> Response:
    """Whether payments are taken here."""
    if waits := desk(request).waits_for():
        raise Problem(503, "; ".join(waits), Retry_After="1")
    return json({"ready": True})


@router.get("/metrics", openapi_extra=_KEY, responses=answers(TEXT, 401, keyed=False, media="text/plain"))
async def exported(request: Request) -> Response:
    """Every series, for Prometheus. Beyond this machine, with AEGIS_WEB_TOKEN."""
    at = desk(request)
    at.guard.may_scrape(request)
    metrics.WAITING.set(at.exchange.in_hand)
    metrics.READY.set(not at.waits_for())
    return Response(generate_latest(metrics.REGISTRY), media_type=CONTENT_TYPE_LATEST)
