# A worker, and what runs beside it (ledger, gateway, alerts): docker build -t aegis .
FROM python:3.13.14-slim AS build
WORKDIR /source
COPY requirements/build.txt requirements/gateway.txt requirements/
RUN python -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements/build.txt \
 && python -m venv /opt/aegis \
 && /opt/aegis/bin/pip install --no-cache-dir --require-hashes -r requirements/gateway.txt
COPY . .
RUN /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /opt/aegis/bin/pip install --no-cache-dir --no-deps --no-index /wheels/*.whl

FROM python:3.13.14-slim
RUN useradd --uid 10001 --user-group --home-dir /var/lib/aegis --create-home --shell /usr/sbin/nologin aegis
COPY --from=build /opt/aegis /opt/aegis
ENV PATH=/opt/aegis/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    AEGIS_DATADIR=/var/lib/aegis/worker
USER 10001:10001
WORKDIR /var/lib/aegis
EXPOSE 6066
# What a supervisor should restart it for, and no more: see /health in README.md. All that is ours answers at this port here.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ.get('AEGIS_WEB_PORT', '6066') + '/health', timeout=4)"]
# --quiet leaves out Faust's banner, which is no line of a log.
CMD ["faust", "--quiet", "-A", "aegis_app", "worker", "-l", "info"]
