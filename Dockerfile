# The two images that are worth shipping; both run as a user without rights, and need no network.
#   bench   everything: docker run --rm -v "$PWD/out:/patchbench/out" IMAGE run benchmarks/suites/demo.toml    (amd64)
#   replay  the device side alone: docker run --rm -i -v BUNDLE:/bundle:ro -v OUT:/out IMAGE /bundle /out      (amd64, arm64)
# Build arguments: BASE_IMAGE, a Python 3.11 with pip; REQUIREMENTS, what pip installs into replay, as NAME==VERSION with
# spaces between; PIP_INDEX_URL, PIP_EXTRA_INDEX_URL. A certificate: --secret id=ca,src=FILE. Wheels of your own: in a folder wheels/.
ARG BASE_IMAGE=python:3.11-slim

# what the installs below look at, and nothing else: another change leaves their layers as they are
FROM scratch AS context
COPY requirements*.txt wheels* /

FROM ${BASE_IMAGE} AS installer
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ENV PIP_FIND_LINKS=/context PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /context

FROM installer AS replay-packages
ARG REQUIREMENTS
RUN --mount=type=bind,from=context,target=/context \
    --mount=type=secret,id=ca --mount=type=cache,target=/root/.cache/pip \
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi; \
    set -f; for word in $REQUIREMENTS; do case $word in \
        -* | *[!A-Za-z0-9._=+!-]*) echo "REQUIREMENTS: expected NAME==VERSION, got $word" >&2; exit 2;; \
    esac; done; \
    python3 -m pip install --only-binary :all: --target /opt/site \
        ${REQUIREMENTS:---no-deps --require-hashes --requirement requirements-replay.txt}

FROM ${BASE_IMAGE} AS without-pip
RUN find /usr \( -name pip -o -name 'pip[-0-9]*' -o -name 'setuptools*' -o -name 'wheel-*' -o -name wheel \
    -o -name pkg_resources -o -name _distutils_hack -o -name distutils-precedence.pth \
    -o -name ensurepip -o -name python-wheels \) -prune -exec rm -rf {} +

# from scratch, since what a layer deletes still counts in those below it
FROM scratch AS replay
COPY --from=without-pip / /
COPY --from=replay-packages /opt/site /opt/site
COPY backends/__init__.py /opt/patchbench/backends/
COPY backends/device /opt/patchbench/backends/device
ENV PYTHONPATH=/opt/site LANG=C.UTF-8
WORKDIR /opt/patchbench
USER 65534:65534
ENTRYPOINT ["python3", "-m", "backends.device.replay"]

FROM installer AS bench-packages
RUN --mount=type=bind,from=context,target=/context \
    --mount=type=secret,id=ca --mount=type=cache,target=/root/.cache/pip \
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi; \
    for lock in requirements-torch.txt requirements.txt; do \
        python3 -m pip install --no-deps --require-hashes --target /opt/site --requirement $lock || exit; \
    done

FROM bench-packages AS bench-program
COPY . /program
RUN PYTHONPATH=/opt/site python3 -m pip install --no-deps --no-build-isolation --target /opt/program /program

FROM ${BASE_IMAGE} AS bench
COPY --from=bench-packages /opt/site /opt/site
COPY --from=bench-program /opt/program /opt/program
COPY benchmarks /patchbench/benchmarks
ENV PATH=/opt/program/bin:$PATH PYTHONPATH=/opt/program:/opt/site LANG=C.UTF-8 HOME=/tmp
WORKDIR /patchbench
RUN mkdir out && chown 65534:65534 out
USER 65534:65534
ENTRYPOINT ["patchbench"]
CMD ["--help"]
