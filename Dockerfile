# syntax=docker/dockerfile:1
# The image of everything that runs in a cluster. Build and push it for both architectures:
#
#     docker buildx build --platform linux/amd64,linux/arm64 --tag registry.example/megalos:0.1.0 --push .
#
# It holds two programs without a library, a shell or a package, 25 MB; the daemons are links to megalos. The tests make the
# same image from the same script without a builder (tests/src/cluster/image.rs).

# Compiles on the machine's own architecture for the one asked for: emulation would take an hour.
FROM --platform=$BUILDPLATFORM docker.io/library/rust:1.95-bookworm AS build
ARG TARGETARCH
WORKDIR /src
RUN case "$TARGETARCH" in \
        amd64) triple=x86_64-unknown-linux-gnu packages="gcc-x86-64-linux-gnu libc6-dev-amd64-cross" ;; \
        arm64) triple=aarch64-unknown-linux-gnu packages="gcc-aarch64-linux-gnu libc6-dev-arm64-cross" ;; \
        *) echo "no image for $TARGETARCH: amd64 and arm64 only" >&2; exit 1 ;; \
    esac \
    && echo "$triple" > /triple \
    && if [ "$TARGETARCH" != "$(dpkg --print-architecture)" ]; then \
        apt-get update && apt-get install -y --no-install-recommends $packages && rm -rf /var/lib/apt/lists/*; \
    fi
# Before the sources, so that a change of them does not fetch the toolchain again.
COPY rust-toolchain.toml .
RUN rustup toolchain install --no-self-update && rustup target add "$(cat /triple)"
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,id=megalos-target-$TARGETARCH \
    directory=$(scripts/image-binaries "$(cat /triple)") \
    && mkdir /image \
    && cp "$directory/megalos" "$directory/megalos-cni" /image/ \
    && ln -s megalos /image/megalos-rr && ln -s megalos /image/megalos-speaker

FROM scratch
LABEL org.opencontainers.image.title="megalos" \
    org.opencontainers.image.source="https://github.com/megalos/megalos" \
    org.opencontainers.image.licenses="Apache-2.0 OR MIT"
COPY --from=build /image/ /
# Whoever needs more says so: the worker does, in deploy/install.yaml.
USER 65532:65532
ENTRYPOINT ["/megalos"]
