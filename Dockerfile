# docker build -t timescaledb-policy-operator .
FROM docker.io/library/rust:1.95-bookworm AS build
WORKDIR /src
# Writes the list of dependencies into the program, for scanners (cargo audit bin).
RUN cargo install --locked --version 0.7.7 cargo-auditable
COPY Cargo.toml Cargo.lock ./
COPY sql sql
COPY src src
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    CARGO_PROFILE_RELEASE_STRIP=true cargo auditable build --release --locked --bin timescaledb-policy-operator \
    && install -D target/release/timescaledb-policy-operator /out/timescaledb-policy-operator

# The C library of the build's Debian, certificate authorities, and nothing else: no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="timescaledb-policy-operator" \
      org.opencontainers.image.description="Keeps the TimescaleDB policies of existing databases true" \
      org.opencontainers.image.source="https://github.com/timescaledb-policy-operator/timescaledb-policy-operator" \
      org.opencontainers.image.documentation="https://github.com/timescaledb-policy-operator/timescaledb-policy-operator/tree/main/docs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /out/timescaledb-policy-operator /usr/local/bin/
# glibc would keep an arena for each core, and the more of what was freed the larger the blocks were (mallopt(3)).
ENV MALLOC_ARENA_MAX=1 MALLOC_TRIM_THRESHOLD_=131072 MALLOC_MMAP_THRESHOLD_=131072
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/timescaledb-policy-operator"]
CMD ["run"]
