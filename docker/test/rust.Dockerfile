# In rust:1-bookworm's place, where nothing can be pulled: the base, this machine's own toolchain, its roots and its crates.
ARG BASE
FROM ${BASE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
COPY toolchain /usr/local/toolchain
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY registry /usr/local/cargo/registry
ENV CARGO_HOME=/usr/local/cargo PATH=/usr/local/toolchain/bin:$PATH SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
