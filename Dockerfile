# One image for both processes: `haina serve` (the default) and `haina worker`. The steps are the Makefile's.
FROM python:3.11-slim-bookworm
RUN apt-get update \
    && apt-get install -y --no-install-recommends make curl \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 haina
WORKDIR /srv/haina
COPY Makefile pyproject.toml requirements.lock README.md LICENSE ./
COPY app app
COPY ui ui
COPY storage storage
COPY prompts prompts
RUN make setup && mkdir -p /data /models && chown haina:haina /data /models
USER haina
ENV HAINA_DATA_DIR=/data \
    HAINA_SERVER__HOST=0.0.0.0 \
    HAINA_LOG__FORMAT=json \
    PATH=/srv/haina/.venv/bin:$PATH
VOLUME ["/data", "/models"]
EXPOSE 7860
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD curl --fail --silent http://127.0.0.1:7860/healthz || exit 1
CMD ["haina", "serve"]
