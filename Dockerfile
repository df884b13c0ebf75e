# dolmen in a small image: built in the first stage, run as an ordinary user in the second.
# Needs no BuildKit. The images can be replaced, for a mirror or for another base:
#   docker build --build-arg BUILD_IMAGE=... --build-arg BASE_IMAGE=... .

ARG BUILD_IMAGE=rust:1.95-slim-bookworm
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${BUILD_IMAGE} AS builder
WORKDIR /src
COPY . .
# The data directory is made here, so that the last stage runs no program at all.
RUN cargo build --release --locked --bin dolmen && mkdir -p /out/data && cp target/release/dolmen /out/dolmen

FROM ${BASE_IMAGE}
COPY --from=builder /out/dolmen /usr/local/bin/dolmen
# A new volume takes over the owner of the directory that it is mounted on.
COPY --from=builder --chown=10001:10001 /out/data /data
USER 10001:10001
ENV DOLMEN_HTTP=0.0.0.0:3000 DOLMEN_P2P=0.0.0.0:6005 DOLMEN_DATA_DIR=/data
VOLUME /data
EXPOSE 3000 6005
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 \
    CMD ["dolmen", "health", "--url", "http://127.0.0.1:3000"]
ENTRYPOINT ["dolmen"]
CMD ["node"]
