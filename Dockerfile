# One image for every process; the command is the argument: serve, worker, scheduler, init, keys, …
#
#   docker build --target cpu -t plumbline:0.1.0-cpu .
#   docker build --target cuda -t plumbline:0.1.0-cuda .      # never built yet, like its lock: needs a machine with CUDA
#
# It runs as user 10001 and writes only below /home/plumbline, so it works with a read-only root. Nothing here needs
# BuildKit. k8s/build_image.sh builds the CPU image from this very file where there is no Docker and no registry.
ARG DEBIAN=docker.io/library/debian:bookworm-20260824-slim@sha256:88200866dfff7ea7f5cbcb6ec7c8a701889efe6fe859fe64d6990e4b07ea4171
ARG UBUNTU=docker.io/library/ubuntu:noble-20260610@sha256:4fbb8e6a8395de5a7550b33509421a2bafbc0aab6c06ba2cef9ebffbc7092d90
ARG NODE=docker.io/library/node:22.23.3-bookworm-slim@sha256:43ac6c60b8f89723f746e8a92ce91abd5017e627ce1ddfe4238355d3a30b772c

FROM ${NODE} AS page
WORKDIR /build/web/app
COPY web/app/package.json web/app/package-lock.json web/app/.npmrc ./
RUN npm ci --omit=dev
COPY web/app ./
RUN npm run build

# The lock for CPU is for Debian's Python 3.11.
FROM ${DEBIAN} AS system-cpu
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates libnuma1 python3 tini \
    && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log \
    && useradd --uid 10001 --create-home plumbline
WORKDIR /home/plumbline
ENV PATH=/opt/plumbline/bin:$PATH PYTHONUNBUFFERED=1 TMPDIR=/home/plumbline

# The lock for CUDA is for Python 3.12, and Triton compiles its launchers when it runs. CUDA itself comes with the
# wheels, the driver from the host.
FROM ${UBUNTU} AS system-cuda
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates python3 tini gcc libc6-dev python3-dev \
    && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log \
    && useradd --uid 10001 --create-home plumbline
WORKDIR /home/plumbline
ENV PATH=/opt/plumbline/bin:$PATH PYTHONUNBUFFERED=1 TMPDIR=/home/plumbline
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

# Plumbline itself, with the page: pure Python, so one wheel for both.
FROM system-cpu AS package
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip
WORKDIR /build
RUN pip install -q --break-system-packages --no-cache-dir setuptools==78.1.1
COPY pyproject.toml README.md ./
COPY core core
COPY feedback feedback
COPY lab lab
COPY plumbline plumbline
COPY serving serving
COPY training training
COPY web/__init__.py web/
COPY --from=page /build/web/page web/page
RUN pip wheel -q --no-deps --no-build-isolation --wheel-dir dist .

# Bytecode is made here, for nobody can write it later. Left out: a file of torch's own tests, in Python 3.12's syntax.
FROM system-cpu AS environment-cpu
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip python3-venv
WORKDIR /build
COPY pyproject.toml ./
COPY requirements requirements
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN sh requirements/image.sh cpu
RUN /opt/plumbline/bin/python -m compileall -q -j 0 -x py312_intrinsics --invalidation-mode unchecked-hash /opt/plumbline/lib
COPY --from=package /build/dist dist
RUN pip --python /opt/plumbline/bin/python install -q --no-deps --no-cache-dir dist/*.whl

FROM system-cuda AS environment-cuda
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip python3-venv
WORKDIR /build
COPY pyproject.toml ./
COPY requirements requirements
RUN sh requirements/image.sh cuda
RUN /opt/plumbline/bin/python -m compileall -q -j 0 -x py312_intrinsics --invalidation-mode unchecked-hash /opt/plumbline/lib
COPY --from=package /build/dist dist
RUN pip --python /opt/plumbline/bin/python install -q --no-deps --no-cache-dir dist/*.whl

FROM system-cuda AS cuda
COPY --from=environment-cuda /opt/plumbline /opt/plumbline
USER 10001:10001
ENTRYPOINT ["tini", "--", "plumbline"]

FROM system-cpu AS cpu
COPY --from=environment-cpu /opt/plumbline /opt/plumbline
USER 10001:10001
ENTRYPOINT ["tini", "--", "plumbline"]
