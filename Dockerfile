# Millrace's images, one a service: docker build --target relayer|settler|issuer|tools . (tilt/images.sh makes all four).
#
# Programs come from a build in here, or, with BINARIES=prebuilt, from this machine's own build, put in place by
# tilt/stage.sh: for quick rebuilds, and for where no image with Rust can be had. Needs BuildKit, which leaves out the
# stages that are not asked for.

ARG RUST_IMAGE=rust:1.95-bookworm
# What services run on: libc and the authorities for TLS, no shell. Its libc must be no older than that of RUST_IMAGE.
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot
# What the tools run on, which are used by hand and in scripts: with a shell.
ARG TOOLS_IMAGE=debian:bookworm-slim
# built or prebuilt.
ARG BINARIES=built


FROM ${RUST_IMAGE} AS builder
WORKDIR /src
# Not target/, nor what only images hold: a change there is none of the sources.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY common common
COPY relayer relayer
COPY settler settler
COPY issuer issuer
COPY cli cli
COPY tests tests
# The same sources give the same programs: no path and no time of this build is in them. Names of functions are, for
# profiles. Flags are added to those of .cargo/config.toml; RUSTFLAGS would replace them.
ARG SOURCE_DATE_EPOCH=0
ENV SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH} CARGO_INCREMENTAL=0 CARGO_PROFILE_RELEASE_STRIP=debuginfo
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked -p relayer -p settler -p issuer -p cli \
        --config 'target."cfg(all())".rustflags=["--remap-path-prefix=/src=/millrace", "--remap-path-prefix=/usr/local/cargo=/cargo"]' \
    && mkdir -p /out/bin /out/state \
    && cp target/release/relayer target/release/settler target/release/issuer target/release/millrace /out/bin/ \
    && find /out -exec touch --date="@${SOURCE_DATE_EPOCH}" {} +


FROM scratch AS built
COPY --from=builder /out/ /

FROM scratch AS prebuilt
COPY target/image/ /

FROM ${BINARIES} AS binaries


FROM ${RUNTIME_IMAGE} AS runtime
# Who owns the programs. Not the user that runs them, except where they are replaced in a running container.
ARG OWNER=0:0
ENV PATH=/opt/millrace/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# Everything that a service writes, and it writes nowhere else: the root file system can be read-only.
COPY --from=binaries --chown=65532:65532 /state/ /var/lib/millrace/
WORKDIR /var/lib/millrace
USER 65532:65532
# What drains a service: it falls out of readiness, ends what is in flight, and exits with 0.
STOPSIGNAL SIGTERM


FROM runtime AS relayer
COPY --from=binaries --chown=${OWNER} /bin/relayer /opt/millrace/bin/
COPY --chown=${OWNER} config.relayer.yaml /etc/millrace/
ENV MILLRACE_RELAYER__LISTEN=0.0.0.0:8080 MILLRACE_RELAYER__ADMIN_LISTEN=0.0.0.0:8081
EXPOSE 8080 8081
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=3 \
    CMD ["relayer", "--config", "/etc/millrace/config.relayer.yaml", "--probe", "live"]
ENTRYPOINT ["relayer"]
CMD ["--config", "/etc/millrace/config.relayer.yaml"]


FROM runtime AS settler
COPY --from=binaries --chown=${OWNER} /bin/settler /opt/millrace/bin/
COPY --chown=${OWNER} config.settler.yaml /etc/millrace/
ENV MILLRACE_SETTLER__ADMIN_LISTEN=0.0.0.0:8091
EXPOSE 8091
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=3 \
    CMD ["settler", "--config", "/etc/millrace/config.settler.yaml", "--probe", "live"]
ENTRYPOINT ["settler"]
CMD ["--config", "/etc/millrace/config.settler.yaml"]


FROM runtime AS issuer
COPY --from=binaries --chown=${OWNER} /bin/issuer /opt/millrace/bin/
COPY --chown=${OWNER} issuer/config.issuer.yaml /etc/millrace/
ENV MILLRACE_ISSUER__LISTEN=0.0.0.0:7070 MILLRACE_ISSUER__ADMIN_LISTEN=0.0.0.0:7071
EXPOSE 7070 7071
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s --retries=3 \
    CMD ["issuer", "--config", "/etc/millrace/config.issuer.yaml", "--probe", "live"]
ENTRYPOINT ["issuer"]
CMD ["--config", "/etc/millrace/config.issuer.yaml"]


# The command line, for whoever operates the others: not a service, so nothing asks for its health.
FROM ${TOOLS_IMAGE} AS tools
ENV PATH=/opt/millrace/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
COPY --from=binaries --chown=65532:65532 /state/ /var/lib/millrace/
COPY --from=binaries --chown=65532:65532 /state/ /etc/millrace/
COPY --from=binaries --chown=65532:65532 /state/ /run/millrace/issuer/
COPY --from=binaries --chown=65532:65532 /state/ /run/millrace/payee/
COPY --from=binaries /bin/millrace /opt/millrace/bin/
COPY config.relayer.yaml config.settler.yaml issuer/config.issuer.yaml /usr/share/millrace/
WORKDIR /var/lib/millrace
USER 65532:65532
ENTRYPOINT ["millrace"]
CMD ["--help"]
