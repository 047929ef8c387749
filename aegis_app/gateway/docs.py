"""The page of /docs: Swagger's, with its script from here. What is let in to take payments runs nothing that a stranger serves."""

from typing import Final

from fastapi import APIRouter, FastAPI, Response
from starlette.staticfiles import StaticFiles

router: Final = APIRouter(include_in_schema=False)

POLICY: Final = (
    b"content-security-policy",
    b"default-src 'none'; connect-src 'self'; img-src 'self' data:; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    b"frame-ancestors 'none'",
)
PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Aegis</title>
<link rel="stylesheet" href="docs/files/swagger-ui.css">
<link rel="icon" href="data:,">
</head>
<body>
<div id="page"></div>
<noscript>This page wants JavaScript; <a href="openapi.json">openapi.json</a> says the same.</noscript>
<script src="docs/files/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
START: Final = 'SwaggerUIBundle({url: "openapi.json", dom_id: "#page", deepLinking: true, validatorUrl: null})\n'


@router.get("/docs")
async def page() -> Response:
    return Response(PAGE, media_type="text/html")


@router.get("/docs/start.js")
async def start() -> Response:
    return Response(START, media_type="text/javascript")


def install(app: FastAPI) -> None:
    """Serve the page, and of the package fastapi-offline the files that it wants: that is all it is here for."""
    app.include_router(router)
    app.mount("/docs/files", StaticFiles(packages=[("fastapi_offline", "static")]))
