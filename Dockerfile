# The image is one static binary and its licence: no shell, no libc, no root.
#
#   docker build -t switchyard .                              from source; needs a registry for the Rust image
#   deploy/build-static.sh                                    the same binary, by the machine's own Rust
#   docker build -t switchyard --target prebuilt .            from that binary; pulls nothing
#
# The stages that pull nothing come first: the classic builder runs every stage up to its target.

FROM scratch AS shape
LABEL org.opencontainers.image.title="Switchyard" \
      org.opencontainers.image.description="A content-aware gRPC streaming gateway: every message of every stream to the backend that should have it" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY LICENSE /LICENSE
USER 65532:65532
# Agents, access logs, metrics services; Prometheus with /ready and /live. The admin port (9901) stays on loopback.
EXPOSE 11800 11802 11803 1234
HEALTHCHECK --interval=5s --timeout=3s --start-period=5s --retries=3 CMD ["/switchyard", "healthcheck"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/switchyard"]
CMD ["run"]

FROM shape AS prebuilt
COPY deploy/bin/switchyard /switchyard

FROM rust:1.95-alpine AS source
# The C library that crates with C sources link against.
RUN apk add --no-cache musl-dev
WORKDIR /build
COPY . .
RUN cargo build --release --locked --bin switchyard

# The last stage is what `docker build` without a target makes.
FROM shape AS from-source
COPY --from=source /build/target/release/switchyard /switchyard
