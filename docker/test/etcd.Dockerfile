# In etcd's own image's place: Debian's packages.
ARG BASE
FROM ${BASE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends etcd-client etcd-server \
 && rm -rf /var/lib/apt/lists/*
ENV ETCDCTL_API=3
