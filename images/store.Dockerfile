# The sample store (docs/store.md), for docker-compose.yml. Built from the repository's root.
#
# Without a package index in reach, put wheels into images/wheels before:
#   pip wheel '.[store]' setuptools wheel -w images/wheels && docker compose build --build-arg PIP_NO_INDEX=1
FROM python:3.11-slim

ARG PIP_NO_INDEX=""
WORKDIR /srv/store
# The pattern may match nothing: then everything comes from the index.
COPY pyproject.toml README.md images/wheels* wheels/
RUN mv wheels/pyproject.toml wheels/README.md . && python3 -m venv /opt/store
COPY dbmigrate dbmigrate
RUN PIP_FIND_LINKS=/srv/store/wheels /opt/store/bin/pip install --no-cache-dir '.[store]' && rm -rf wheels build
COPY migrations migrations
COPY images/store-start images/store-start
ENV PATH=/opt/store/bin:$PATH PYTHONUNBUFFERED=1 STORE_HOST=0.0.0.0 STORE_PORT=8000
EXPOSE 8000
CMD ["images/store-start"]
