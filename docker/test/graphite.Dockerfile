# In graphite-statsd's place: Debian's carbon and graphite-web, and collectd, whose statsd plugin speaks StatsD. Paths and
# ports are those of the image that it stands for.
ARG BASE
FROM ${BASE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends collectd-core graphite-carbon graphite-web gunicorn libpython3.11 procps wget \
 && rm -rf /var/lib/apt/lists/*
COPY graphite /opt/test
RUN mkdir -p /opt/graphite/storage/whisper /opt/graphite/conf
VOLUME /opt/graphite/storage
CMD ["/bin/sh", "/opt/test/run"]
